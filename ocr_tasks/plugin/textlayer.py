"""Words that a PDF brought with it, for the pages that were not read anew."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdfium2
from ocrmypdf.builtin_plugins.pypdfium import _pdfium_lock
from PIL import Image

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word

#: The resolution in which positions are given, and which an image of such a page is made for.
DPI = 150
_POINTS_PER_INCH = 72

#: Left, bottom, right, top in points; the origin is at the bottom.
_Points = tuple[float, float, float, float]


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
        lines = list(_lines(text, _frame(page)))
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


def _frame(page: pypdfium2.PdfPage) -> Callable[[_Points], Box]:
    """How a box in the coordinates of a PDF page lies on the page as it is seen."""
    left, bottom, right, top = page.get_cropbox()
    turn = page.get_rotation()
    scale = DPI / _POINTS_PER_INCH

    def seen(x: float, y: float) -> tuple[float, float]:
        across, down = x - left, top - y
        return {
            0: (across, down),
            90: (top - bottom - down, across),
            180: (right - left - across, top - bottom - down),
            270: (down, right - left - across),
        }[turn]

    def place(box: _Points) -> Box:
        (x1, y1), (x2, y2) = seen(box[0], box[1]), seen(box[2], box[3])
        edges = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        a, b, c, d = (max(0, round(edge * scale)) for edge in edges)
        return a, b, c, d

    return place


def _lines(text: pypdfium2.PdfTextPage, place: Callable[[_Points], Box]) -> Iterator[Line]:
    """Lines as PDFium ends them; words are what stands between white space."""
    content = text.get_text_range()
    start = 0
    # One pair of code units in PDFium is one character here for all but the rarest scripts.
    for raw in content.splitlines(keepends=True):
        found: list[Word] = []
        for blank, run in itertools.groupby(enumerate(raw), key=lambda pair: pair[1].isspace()):
            characters = list(run)
            if not blank:
                first = start + characters[0][0]
                box = _box(text, first, len(characters))
                if box:
                    found.append(Word("".join(c for _, c in characters), place(box), None))
        start += len(raw)
        if found:
            yield Line(tuple(found), _around([word.box for word in found]), None)


def _box(text: pypdfium2.PdfTextPage, first: int, count: int) -> _Points | None:
    """What characters cover, in the coordinates of the PDF page."""
    boxes = []
    for index in range(first, min(first + count, text.count_chars())):
        with contextlib.suppress(pypdfium2.PdfiumError):
            boxes.append(text.get_charbox(index))
    if not boxes:
        return None
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def _around(boxes: list[Box]) -> Box:
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
