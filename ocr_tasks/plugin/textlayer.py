"""The existing text layer of a PDF, for pages on which no OCR was run."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import pypdfium2
from ocrmypdf.builtin_plugins.pypdfium import _pdfium_lock
from PIL import Image
from pypdfium2.raw import (
    FLAT_NORMALDISPLAY,
    FLATTEN_SUCCESS,
    FPDFPage_Flatten,
    FPDFText_GetCharAngle,
)

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word, bounding_box

#: The resolution of word positions, in pixels per inch.
DPI = 150
_POINTS_PER_INCH = 72

#: PDFium's character for a hyphen at the end of a line, which it joins with the next line.
_LINE_END_HYPHEN = "\ufffe"
_LINE = re.compile(f"[^\r\n{_LINE_END_HYPHEN}]+{_LINE_END_HYPHEN}?|{_LINE_END_HYPHEN}")
_WORD = re.compile(r"\S+")

_T = TypeVar("_T", Line, Word)

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
    """Returns the words of the visible page in the order of the PDF, without confidences.

    `number` is the 1-based number of the page.
    """
    opened = page(pdf, number)
    width, height = (round(side * DPI / _POINTS_PER_INCH) for side in opened.get_size())
    text = opened.get_textpage()
    try:
        rotation = opened.get_rotation()
        lines = _in_reading_order(_lines(text, rotation, _pixel_converter(opened)))
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


def _pixel_converter(page: pypdfium2.PdfPage) -> Callable[[_Points], Box | None]:
    """Returns a function that converts a box from PDF coordinates to pixels of the visible page.

    It clips the box to the visible page, and returns None for a box outside of it.
    """
    left, bottom, right, top = page.get_bbox()  # unlike get_cropbox(), inherited and normalized
    rotation = page.get_rotation()
    scale = DPI / _POINTS_PER_INCH
    width, height = (side * scale for side in page.get_size())

    def rotated(x: float, y: float) -> tuple[float, float]:
        across, down = x - left, top - y
        return {
            0: (across, down),
            90: (top - bottom - down, across),
            180: (right - left - across, top - bottom - down),
            270: (down, right - left - across),
        }[rotation]

    def to_pixels(box: _Points) -> Box | None:
        (x1, y1), (x2, y2) = rotated(box[0], box[1]), rotated(box[2], box[3])
        a, c = sorted((x1 * scale, x2 * scale))
        b, d = sorted((y1 * scale, y2 * scale))
        if a >= width or b >= height or c <= 0 or d <= 0:
            return None
        return (
            *(round(max(0, a)), round(max(0, b))),
            *(round(min(c, width)), round(min(d, height))),
        )

    return to_pixels


def _lines(
    text: pypdfium2.PdfTextPage, rotation: int, to_pixels: Callable[[_Points], Box | None]
) -> Iterator[Line]:
    """Yields the lines of a page as PDFium separates them. Words are split at white space.

    `rotation` is that of the page, in degrees clockwise.
    """
    # Assumes that a character is one UTF-16 code unit in PDFium, which is true for almost all text.
    for found in _LINE.finditer(text.get_text_range()):
        line: list[Word] = []
        start = found.start()
        for word in _WORD.finditer(found[0]):
            points = _box(text, start + word.start(), len(word[0]))
            box = points and to_pixels(points)
            if box:
                line.append(Word(word[0].replace(_LINE_END_HYPHEN, "-"), box, None))
        if line:
            first = start + len(found[0]) - len(found[0].lstrip())
            angle = (-_degrees_clockwise(text, first) - rotation) % 360
            if _quarter(angle) == 180:
                line = _reverse_runs(line, lambda word: word.box[0])
            yield Line(bounding_box([word.box for word in line]), None, tuple(line), angle)


def _degrees_clockwise(text: pypdfium2.PdfTextPage, index: int) -> int:
    """Returns by how much a character is rotated on the page before the page is rotated."""
    return round(math.degrees(max(0.0, FPDFText_GetCharAngle(text, index))))  # -1: unknown


def _quarter(angle: int) -> int:
    return round(angle / 90) % 4 * 90


def _in_reading_order(lines: Iterable[Line]) -> list[Line]:
    """Returns the lines in their order, which PDFium reverses if they run from top to bottom."""
    ordered: list[Line] = []
    for angle, group in groupby(lines, lambda line: _quarter(line.angle)):
        same = list(group)
        ordered += _reverse_runs(same, lambda line: line.box[0]) if angle == 270 else same
    return ordered


def _reverse_runs(items: Iterable[_T], left: Callable[[_T], int]) -> list[_T]:
    """Reverses each run of items of which each begins to the right of the one before."""
    ordered: list[_T] = []
    run: list[_T] = []
    for item in items:
        if run and left(item) <= left(run[-1]):
            ordered += reversed(run)
            run = []
        run.append(item)
    return ordered + run[::-1]


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
