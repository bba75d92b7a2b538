"""The text of one page: blocks, paragraphs, lines and words, with their boxes.

All formats of this package are written from these classes, no matter whether the words come from
Tesseract's hOCR or from the text layer of the uploaded PDF.

Pages are stored as JSON. Blocks, paragraphs, lines and words are lists without field names there,
in the order of the fields, because with hundreds of words per page the names would take up most of
the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Literal

import msgspec

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the origin is the top left corner of the page."""


def bounding_box(boxes: Iterable[Box]) -> Box:
    """Returns the smallest box that contains all boxes, of which there is at least one."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


Direction = Literal["ltr", "rtl"]
Source = Literal["ocr", "pdf", "none"]


class Word(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One word. `confidence` is from 0 to 1, or None if unknown (e.g. a PDF's own text)."""

    text: str
    box: Box
    confidence: float | None


class Line(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One line of words.

    `baseline` is in hOCR's form: slope, and offset in pixels, from the bottom left corner of
    the box. `angle` is the direction of the text, in degrees counterclockwise from left to right:
    text with 90 runs from bottom to top.
    """

    box: Box
    baseline: tuple[float, float] | None
    words: tuple[Word, ...]
    angle: int = 0


class Paragraph(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One paragraph. `language` is the name that its source uses."""

    box: Box
    language: str | None
    direction: Direction | None
    lines: tuple[Line, ...]


class Block(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An area of the page with one or more paragraphs."""

    box: Box
    paragraphs: tuple[Paragraph, ...]


class Page(msgspec.Struct, frozen=True):
    """One page. `number` is 1-based, sizes are in pixels, `rotation` is in degrees clockwise."""

    number: int
    width: int
    height: int
    dpi: int | float
    blocks: tuple[Block, ...]
    source: Source
    rotation: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError if the number or the resolution is invalid."""
        if self.number < 1 or not (isfinite(self.dpi) and self.dpi > 0):
            raise ValueError(f"invalid page number {self.number} or resolution {self.dpi} dpi")

    @classmethod
    def empty(
        cls, number: int, width: int, height: int, dpi: float, source: Source = "none"
    ) -> Page:
        """Returns a page without words: OCR did not run on it, or found no text."""
        return cls(number, width, height, dpi, blocks=(), source=source)

    @property
    def paragraphs(self) -> Iterator[Paragraph]:
        """All paragraphs in reading order."""
        return (paragraph for block in self.blocks for paragraph in block.paragraphs)

    @property
    def lines(self) -> Iterator[Line]:
        """All lines in reading order."""
        return (line for paragraph in self.paragraphs for line in paragraph.lines)

    @property
    def words(self) -> Iterator[Word]:
        """All words in reading order."""
        return (word for line in self.lines for word in line.words)

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the words (0 to 1), weighted by their numbers of characters.

        None if no word has both text and a confidence.
        """
        total, weight = 0.0, 0
        for word in self.words:
            if word.confidence is not None:
                total += word.confidence * len(word.text)
                weight += len(word.text)
        return total / weight if weight else None

    def to_json(self) -> bytes:
        """Returns the page as JSON, which is how pages are stored."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Page:
        """Creates a page from the JSON of `to_json`. ValueError if it is invalid."""
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise ValueError(f"stored page: {error}") from None


_decoder = msgspec.json.Decoder(Page)
