"""Where OCR-D's own programs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ocrd_bin() -> Path:
    """The bin folder of an environment with `ocrd`."""
    for path in (
        ROOT / ".venv-ocrd/bin",
        Path(os.environ.get("OCR_OCRD_PATH", "/tmp/ocrdvenv/bin")),
    ):
        if (path / "ocrd").exists():
            return path
    raise AssertionError("no environment with ocrd")
