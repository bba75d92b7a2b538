"""Pages to write: one that Tesseract recognized, and one with hostile text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_tasks.formats import hocr
from ocr_tasks.formats.page import Block, Line, Page, Paragraph, Word

DATA = Path(__file__).parents[2] / "data"
DPI = 150


@pytest.fixture(scope="session")
def tesseract_hocr() -> bytes:
    """Returns Tesseract's own hOCR of a scanned page, rendered at 150 DPI with pdftoppm."""
    return (DATA / "huckleberry-finn-p22.hocr").read_bytes()


@pytest.fixture(scope="session")
def scanned(tesseract_hocr: bytes) -> Page:
    """The page that Tesseract recognized."""
    return hocr.parse(tesseract_hocr, 1, DPI)


@pytest.fixture
def hostile() -> Page:
    """A page with hostile text from a PDF's text layer; some words have no confidence."""
    words = (
        Word("<script>alert('&amp;')</script>", (10, 10, 60, 20), 0.5),
        Word('"]]>', (70, 10, 90, 20), None),
        Word("nul\x00bell\x07del\x7fnonchar\uffff", (100, 10, 120, 20), 0.25),
        Word("form\ffeed\nline", (130, 10, 140, 20), 1.0),
        Word("lone\ud800surrogate", (150, 10, 160, 20), 0.0),
        Word("😀𐍈", (170, 10, 180, 20), 0.9312),
        Word("\x00", (185, 10, 190, 20), 0.5),
    )
    hebrew = (Word("שלום", (150, 40, 190, 50), 0.75), Word("עולם", (100, 40, 140, 50), 0.75))
    left_to_right = Paragraph(
        (10, 10, 190, 30),
        "ita_old",
        None,
        (Line((10, 10, 190, 20), (-0.000001, -2.5), words), Line((10, 25, 190, 30), None, ())),
    )
    right_to_left = Paragraph(
        (100, 40, 190, 50), "heb", "rtl", (Line((100, 40, 190, 50), None, hebrew),)
    )
    blocks = (
        Block((10, 10, 190, 30), (left_to_right,)),
        Block((100, 40, 190, 50), (right_to_left,)),
    )
    return Page(7, 200, 100, 72.0, blocks, "pdf", 90)


@pytest.fixture
def hostile_words() -> list[str]:
    """Returns the hostile page's words as they are written, without the empty one."""
    return [
        "<script>alert('&amp;')</script>",
        '"]]>',
        "nulbelldelnonchar",
        "form feed line",
        "lonesurrogate",
        "😀𐍈",
        "שלום",
        "עולם",
    ]
