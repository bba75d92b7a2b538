"""How text layers are drawn. Their words are compared with stock OCRmyPDF's in test_engine.py."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import ocrmypdf
import pytest

from ocr_tasks.plugin import textpages

FONTS = Path(ocrmypdf.__file__).parent / "data"


def drawn(text: str, font: Path) -> bytes:
    """Returns a PDF with a text, as it is after its layout tables have been dropped, or not."""
    document = textpages._new_document()
    document.creation_date = datetime(2026, 1, 1, tzinfo=UTC)
    document.add_page()
    document.add_font("font", fname=font)
    document.set_font("font")
    document.cell(text=text)
    textpages._drop_layout_tables(document)
    return bytes(document.output())


@pytest.mark.parametrize(
    ("font", "text"),
    [
        ("NotoSans-Regular.ttf", "An efficient office, Äpfel"),
        ("Occulta.ttf", "سلاح"),
    ],
)
def test_dropped_tables_do_not_change_the_document(
    font: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = drawn(text, FONTS / font)
    monkeypatch.setattr(textpages, "_LAYOUT_TABLES", ())

    assert drawn(text, FONTS / font) == dropped
