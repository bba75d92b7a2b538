"""Words that a PDF brought with it, for the pages that were not read anew."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
from ocrmypdf.builtin_plugins.pypdfium import _pdfium_lock
from PIL import Image

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word

#: The resolution in which positions are given, and which an image of such a page is made for.
DPI = 150
_POINTS_PER_INCH = 72


@contextlib.contextmanager
def document(path: Path) -> Iterator[pypdfium2.PdfDocument]:
    """A PDF, opened in PDFium, which no other thread uses in the meantime."""
    with _pdfium_lock:
        pdf = pypdfium2.PdfDocument(path)
        try:
            yield pdf
        finally:
            pdf.close()


def words(pdf: pypdfium2.PdfDocument, number: int) -> Page:
    """The words on a page, counted from 1, in the order of the PDF, without confidences."""
    page = pdf[number - 1]
    width, height = (round(side * DPI / _POINTS_PER_INCH) for side in page.get_size())
    text = page.get_textpage()
    try:
        lines = [line for line in _lines(text, page.get_height()) if line.words]
    finally:
        text.close()
        page.close()
    if not lines:
        return Page.empty(number, width, height, DPI)
    box = _around([line.box for line in lines])
    paragraph = Paragraph(tuple(lines), box, language=None, direction=None)
    return Page(number, width, height, DPI, (Block((paragraph,), box),), "pdf")


def picture(pdf: pypdfium2.PdfDocument, number: int, pixels: int) -> Image.Image:
    """An image of a page, counted from 1, so many pixels wide."""
    page = pdf[number - 1]
    try:
        image: Image.Image = page.render(scale=pixels / max(1.0, page.get_width())).to_pil()
        return image
    finally:
        page.close()


def _lines(text: pypdfium2.PdfTextPage, page_height: float) -> Iterator[Line]:
    """Lines as PDFium ends them; words are what stands between white space."""
    content = text.get_text_range()
    place = 0
    # One pair of code units in PDFium is one character here for all but the rarest scripts.
    for raw in content.splitlines(keepends=True):
        found: list[Word] = []
        for blank, run in itertools.groupby(enumerate(raw), key=lambda pair: pair[1].isspace()):
            characters = list(run)
            if not blank:
                first = place + characters[0][0]
                box = _box(text, first, len(characters), page_height)
                if box:
                    found.append(Word("".join(c for _, c in characters), box, None))
        place += len(raw)
        if found:
            yield Line(tuple(found), _around([word.box for word in found]), None)


def _box(text: pypdfium2.PdfTextPage, first: int, count: int, page_height: float) -> Box | None:
    """The pixels that characters cover, from the top left corner."""
    boxes = []
    for index in range(first, min(first + count, text.count_chars())):
        with contextlib.suppress(pypdfium2.PdfiumError):
            boxes.append(text.get_charbox(index))
    if not boxes:
        return None
    scale = DPI / _POINTS_PER_INCH
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    bottom, top = min(box[1] for box in boxes), max(box[3] for box in boxes)
    edges = (left, page_height - top, right, page_height - bottom)
    return tuple(max(0, round(edge * scale)) for edge in edges)


def _around(boxes: list[Box]) -> Box:
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
