"""The existing text layer of a PDF, for pages on which no OCR was run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pypdfium2
from ocrmypdf.builtin_plugins.pypdfium import _pdfium_lock
from PIL import Image
from pypdfium2.raw import FLAT_NORMALDISPLAY, FLATTEN_SUCCESS, FPDFPage_Flatten

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word, bounding_box

#: The resolution of word positions, in pixels per inch.
DPI = 150
_POINTS_PER_INCH = 72

#: PDFium's character for a hyphen at the end of a line, which it joins with the next line.
_LINE_END_HYPHEN = "\ufffe"
_LINE = re.compile(f"[^\r\n{_LINE_END_HYPHEN}]+{_LINE_END_HYPHEN}?|{_LINE_END_HYPHEN}")
_WORD = re.compile(r"\S+")

#: Left, bottom, right and top in points. The origin is at the bottom left.
_Points = tuple[float, float, float, float]


@contextlib.contextmanager
def document(path: Path) -> Iterator[pypdfium2.PdfDocument]:
    """Opens a PDF with PDFium and holds PDFium's lock, because PDFium is not thread-safe."""
    with _pdfium_lock:
        pdf = pypdfium2.PdfDocument(path)
        try:
            yield pdf
        finally:
            pdf.close()


def page(pdf: pypdfium2.PdfDocument, number: int) -> pypdfium2.PdfPage:
    """Returns a page whose annotations and filled form fields are part of its content.

    `number` is the 1-based number of the page. Only this copy in memory is changed.
    """
    found = pdf[number - 1]
    if FPDFPage_Flatten(found, FLAT_NORMALDISPLAY) == FLATTEN_SUCCESS:
        found.close()
        found = pdf[number - 1]  # PDFium parses the new content
    return found


def words(pdf: pypdfium2.PdfDocument, number: int) -> Page:
    """Returns the words of a page in the order of the PDF, without confidences.

    `number` is the 1-based number of the page.
    """
    opened = page(pdf, number)
    width, height = (round(side * DPI / _POINTS_PER_INCH) for side in opened.get_size())
    text = opened.get_textpage()
    try:
        lines = list(_lines(text, _pixel_converter(opened)))
    finally:
        text.close()
        opened.close()
    if not lines:
        return Page.empty(number, width, height, DPI)
    box = bounding_box([line.box for line in lines])
    paragraph = Paragraph(box, None, None, tuple(lines))
    return Page(number, width, height, DPI, (Block(box, (paragraph,)),), "pdf")


def start_of_text(pdf: pypdfium2.PdfDocument, number: int, most: int) -> str:
    """Returns at most `most` characters of a page's text. `number` is 1-based."""
    opened = pdf[number - 1]
    text = opened.get_textpage()
    try:
        return str(text.get_text_range(0, min(most, text.count_chars())))
    finally:
        text.close()
        opened.close()


def picture(pdf: pypdfium2.PdfDocument, number: int, pixels: int) -> Image.Image:
    """Returns an image of a page, `pixels` wide. `number` is the 1-based number of the page."""
    opened = page(pdf, number)
    try:
        image: Image.Image = opened.render(scale=pixels / max(1.0, opened.get_width())).to_pil()
        return image
    finally:
        opened.close()


def _pixel_converter(page: pypdfium2.PdfPage) -> Callable[[_Points], Box]:
    """Returns a function that converts a box from PDF coordinates to pixels of the visible page."""
    left, bottom, right, top = page.get_bbox()  # unlike get_cropbox(), inherited and normalized
    rotation = page.get_rotation()
    scale = DPI / _POINTS_PER_INCH

    def rotated(x: float, y: float) -> tuple[float, float]:
        across, down = x - left, top - y
        return {
            0: (across, down),
            90: (top - bottom - down, across),
            180: (right - left - across, top - bottom - down),
            270: (down, right - left - across),
        }[rotation]

    def to_pixels(box: _Points) -> Box:
        (x1, y1), (x2, y2) = rotated(box[0], box[1]), rotated(box[2], box[3])
        edges = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        a, b, c, d = (max(0, round(edge * scale)) for edge in edges)
        return a, b, c, d

    return to_pixels


def _lines(text: pypdfium2.PdfTextPage, to_pixels: Callable[[_Points], Box]) -> Iterator[Line]:
    """Yields the lines of a page as PDFium separates them. Words are split at white space."""
    # Assumes that a character is one UTF-16 code unit in PDFium, which is true for almost all text.
    for found in _LINE.finditer(text.get_text_range()):
        line: list[Word] = []
        for word in _WORD.finditer(found[0]):
            box = _box(text, found.start() + word.start(), len(word[0]))
            if box:
                line.append(Word(word[0].replace(_LINE_END_HYPHEN, "-"), to_pixels(box), None))
        if line:
            yield Line(bounding_box([word.box for word in line]), None, tuple(line))


def _box(text: pypdfium2.PdfTextPage, first: int, count: int) -> _Points | None:
    """Returns the bounding box of `count` characters in PDF coordinates, None if it is unknown."""
    boxes = []
    for index in range(first, min(first + count, text.count_chars())):
        with contextlib.suppress(pypdfium2.PdfiumError):
            boxes.append(text.get_charbox(index))
    if not boxes:
        return None
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)
