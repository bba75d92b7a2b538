"""What was read on one page: words in lines in paragraphs in blocks, with their boxes.

Every format of this package is written from these classes, whether the words come from Tesseract's
hOCR or from the text layer a PDF brought with it.
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
    """One word; `confidence` is 0..1, or None where nothing measured it (a PDF's own text)."""

    text: str
    box: Box
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of words.

    `baseline` is hOCR's: (slope, offset in pixels) relative to the bottom left corner of the box.
    """

    words: tuple[Word, ...]
    box: Box
    baseline: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together; `language` is written as its source wrote it."""

    lines: tuple[Line, ...]
    box: Box
    language: str | None
    direction: Direction | None


@dataclass(frozen=True, slots=True)
class Block:
    """Paragraphs that stand in one area of the page."""

    paragraphs: tuple[Paragraph, ...]
    box: Box


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `number` is 1-based, sizes are in pixels, `rotation` is in degrees."""

    number: int
    width: int
    height: int
    dpi: float
    blocks: tuple[Block, ...]
    source: Source
    rotation: int = 0

    def __post_init__(self) -> None:
        """ValueError for a page that no format could write."""
        if self.number < 1 or not (isfinite(self.dpi) and self.dpi > 0):
            raise ValueError(f"no page is number {self.number} with {self.dpi} dpi")

    @classmethod
    def empty(
        cls, number: int, width: int, height: int, dpi: float, source: Source = "none"
    ) -> Page:
        """A page of `width` by `height` pixels without words: it was not read, or has no text."""
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
        """Mean confidence (0..1), each word counting as many times as it has characters.

        None when no word has both text and a confidence.
        """
        total, weight = 0.0, 0
        for word in self.words:
            if word.confidence is not None:
                total += word.confidence * len(word.text)
                weight += len(word.text)
        return total / weight if weight else None

    def to_dict(self) -> dict[str, object]:
        """The page as what JSON knows: this is how a page's result is stored."""
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
        """The page that `to_dict` wrote, also after JSON; ValueError for anything else."""
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


# Below a page everything is a list, without names: a page has hundreds of words, and the names
# would be most of the file.


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


def _wrong(expected: str, data: object) -> ValueError:
    # ValueError for every fault: whoever reads a stored page has one thing to catch.
    return ValueError(f"a stored page has {expected} where this is: {data!r:.80}")


def _fields(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise _wrong("an object", data)
    return cast("dict[str, object]", data)


def _list(data: object, length: int | None = None) -> list[object]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise _wrong("a list", data)
    return cast("list[object]", data)


def _int(data: object) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise _wrong("a whole number", data)
    return data


def _float(data: object) -> float:
    if not isinstance(data, int | float) or isinstance(data, bool):
        raise _wrong("a number", data)
    return data


def _str(data: object) -> str:
    if not isinstance(data, str):
        raise _wrong("text", data)
    return data


def _box(data: object) -> Box:
    left, top, right, bottom = _list(data, 4)
    return _int(left), _int(top), _int(right), _int(bottom)


def _baseline(data: object) -> tuple[float, float]:
    slope, offset = _list(data, 2)
    return _float(slope), _float(offset)


def _direction(data: object) -> Direction | None:
    if data is not None and data not in get_args(Direction):
        raise _wrong("a direction", data)
    return cast("Direction | None", data)


def _source(data: object) -> Source:
    if data not in get_args(Source):
        raise _wrong("a source", data)
    return cast("Source", data)
