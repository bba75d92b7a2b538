"""Pages to convert."""

from __future__ import annotations

from tests.ocr_tasks.formats.conftest import (  # noqa: F401  # fixtures
    hostile,
    hostile_words,
    scanned,
    tesseract_hocr,
)
