"""The text of one page: blocks, paragraphs, lines and words, with their boxes.

All formats of this package are written from these classes, no matter whether the words come from
Tesseract's hOCR or from the text layer of the uploaded PDF.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Literal, cast, get_args

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; the origin is the top left corner of the page."""

Direction = Literal["ltr", "rtl"]
Source = Literal["ocr", "pdf", "none"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word. `confidence` is from 0 to 1, or None if unknown (e.g. a PDF's own text)."""

    text: str
    box: Box
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of words.

    `baseline` is in hOCR's form: slope, and offset in pixels, from the bottom left corner of
    the box.
    """

    words: tuple[Word, ...]
    box: Box
    baseline: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph. `language` is the name that its source uses."""

    lines: tuple[Line, ...]
    box: Box
    language: str | None
    direction: Direction | None


@dataclass(frozen=True, slots=True)
class Block:
    """An area of the page with one or more paragraphs."""

    paragraphs: tuple[Paragraph, ...]
    box: Box


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `number` is 1-based, sizes are in pixels, `rotation` is in degrees clockwise."""

    number: int
    width: int
    height: int
    dpi: float
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

    def to_dict(self) -> dict[str, object]:
        """Returns the page as JSON-serializable data, which is how pages are stored."""
        return {
            "number": self.number,
            "width": self.width,
            "height": self.height,
            "dpi": self.dpi,
            "source": self.source,
            "rotation": self.rotation,
            "blocks": [_block_to_json(block) for block in self.blocks],
        }

    @classmethod
    def from_dict(cls, data: object) -> Page:
        """Creates a page from the data of `to_dict`. ValueError if it is invalid."""
        fields = _fields(data)
        return cls(
            number=_int(fields.get("number")),
            width=_int(fields.get("width")),
            height=_int(fields.get("height")),
            dpi=_float(fields.get("dpi")),
            source=_source(fields.get("source")),
            rotation=_int(fields.get("rotation")),
            blocks=tuple(_block_from_json(block) for block in _list(fields.get("blocks"))),
        )


# Blocks, paragraphs, lines and words are stored as lists without field names, because with hundreds
# of words per page the names would take up most of the file.


def _block_to_json(block: Block) -> list[object]:
    return [list(block.box), [_paragraph_to_json(each) for each in block.paragraphs]]


def _paragraph_to_json(paragraph: Paragraph) -> list[object]:
    return [
        list(paragraph.box),
        paragraph.language,
        paragraph.direction,
        [_line_to_json(line) for line in paragraph.lines],
    ]


def _line_to_json(line: Line) -> list[object]:
    baseline = None if line.baseline is None else list(line.baseline)
    return [list(line.box), baseline, [_word_to_json(word) for word in line.words]]


def _word_to_json(word: Word) -> list[object]:
    return [word.text, list(word.box), word.confidence]


def _block_from_json(data: object) -> Block:
    box, paragraphs = _list(data, 2)
    return Block(tuple(_paragraph_from_json(each) for each in _list(paragraphs)), _box(box))


def _paragraph_from_json(data: object) -> Paragraph:
    box, language, direction, lines = _list(data, 4)
    return Paragraph(
        lines=tuple(_line_from_json(line) for line in _list(lines)),
        box=_box(box),
        language=None if language is None else _str(language),
        direction=_direction(direction),
    )


def _line_from_json(data: object) -> Line:
    box, baseline, words = _list(data, 3)
    return Line(
        words=tuple(_word_from_json(word) for word in _list(words)),
        box=_box(box),
        baseline=None if baseline is None else _baseline(baseline),
    )


def _word_from_json(data: object) -> Word:
    text, box, confidence = _list(data, 3)
    return Word(_str(text), _box(box), None if confidence is None else _float(confidence))


def _error(expected: str, data: object) -> ValueError:
    # Always ValueError, also for wrong types, so that callers have one exception to catch.
    return ValueError(f"stored page: expected {expected}, found {data!r:.80}")


def _fields(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise _error("an object", data)
    return cast("dict[str, object]", data)


def _list(data: object, length: int | None = None) -> list[object]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise _error("a list", data)
    return cast("list[object]", data)


def _int(data: object) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise _error("an integer", data)
    return data


def _float(data: object) -> float:
    if not isinstance(data, int | float) or isinstance(data, bool):
        raise _error("a number", data)
    return data


def _str(data: object) -> str:
    if not isinstance(data, str):
        raise _error("text", data)
    return data


def _box(data: object) -> Box:
    left, top, right, bottom = _list(data, 4)
    return _int(left), _int(top), _int(right), _int(bottom)


def _baseline(data: object) -> tuple[float, float]:
    slope, offset = _list(data, 2)
    return _float(slope), _float(offset)


def _direction(data: object) -> Direction | None:
    if data is not None and data not in get_args(Direction):
        raise _error("a direction", data)
    return cast("Direction | None", data)


def _source(data: object) -> Source:
    if data not in get_args(Source):
        raise _error("a source", data)
    return cast("Source", data)
