"""What Azure Document Intelligence says of a document that was read: its `AnalyzeResult`.

The shape is that of api-version 2024-11-30, written down in
https://github.com/Azure/azure-rest-api-specs/blob/main/specification/ai/data-plane/DocumentIntelligence/stable/2024-11-30/DocumentIntelligence.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import regex

from ocr_tasks.formats.language import bcp47
from ocr_tasks.formats.page import Box, Line, Page, Paragraph, Word
from ocr_tasks.formats.placement import in_image
from ocr_tasks.formats.writing import plain

API_VERSION = "2024-11-30"
MODEL = "prebuilt-read"

StringIndex = Literal["textElements", "unicodeCodePoint", "utf16CodeUnit"]

_CLUSTER = regex.compile(r"\X")

#: Offset and length in the content, in units of the string index.
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that is not as it should be with a page."""

    code: str
    message: str
    page: int


@dataclass(frozen=True, slots=True)
class Form:
    """How the result is to be written.

    `index`: in what offsets count; text elements are grapheme clusters. `in_pixels`: measures are
    pixels, else inches. `languages`: whether to tell which languages the text is in.
    """

    index: StringIndex = "textElements"
    in_pixels: bool = False
    languages: bool = False
    warnings: Sequence[Warned] = ()


def document(pages: Callable[[], Iterable[Page]], form: Form) -> Iterator[str]:
    """The result as JSON, a page at a time.

    `pages` gives the pages anew each time it is called: once for the content, for what stands on
    the pages, and for the paragraphs, so that no more than one page is in memory.

    The content has a line break after each line and each page that has text, as Azure's has. What
    nothing measured, the words of a PDF's own text, has the confidence 1: the shape demands one.
    """
    head = {
        "apiVersion": API_VERSION,
        "modelId": MODEL,
        "stringIndexType": form.index,
        "contentFormat": "text",
    }
    yield _json(head)[:-1] + ',"content":"'
    separator = ""
    for page in pages():
        text = "\n".join(line.text for part in _placed(page, "unicodeCodePoint") for line in part)
        if text:
            yield separator + _json(text)[1:-1]
            separator = "\\n"
    yield '","pages":['
    yield from _joined(_pages(pages(), form))
    yield '],"paragraphs":['
    found: dict[str, _Language] = {}
    yield from _joined(_paragraphs(pages(), form, found))
    yield '],"styles":[]'
    if form.languages:
        yield f',"languages":{_json([row.told(tag) for tag, row in found.items()])}'
    if form.warnings:
        rows = [
            {"code": row.code, "message": row.message, "target": str(row.page)}
            for row in form.warnings
        ]
        yield f',"warnings":{_json(rows)}'
    yield "}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _joined(rows: Iterable[dict[str, object]]) -> Iterator[str]:
    separator = ""
    for row in rows:
        yield separator + _json(row)
        separator = ",\n"


# Where everything stands in the content


@dataclass(frozen=True, slots=True)
class _PlacedLine:
    """A line, and its words with where they stand in it."""

    line: Line
    text: str
    length: int
    words: list[tuple[Word, str, _Span]]


class _PlacedParagraph(list[_PlacedLine]):
    """The lines of a paragraph that have text."""

    def __init__(self, paragraph: Paragraph, lines: Iterable[_PlacedLine]) -> None:
        super().__init__(lines)
        self.paragraph = paragraph


def _placed(page: Page, index: StringIndex) -> list[_PlacedParagraph]:
    """The paragraphs of a page that have text."""
    placed = (
        _PlacedParagraph(paragraph, filter(None, (_line(row, index) for row in paragraph.lines)))
        for paragraph in page.paragraphs
    )
    return [part for part in placed if part]


def _line(line: Line, index: StringIndex) -> _PlacedLine | None:
    words = [(word, text) for word in line.words if (text := plain(word.text))]
    if not words:
        return None
    text = " ".join(text for _, text in words)
    starts, ends = _measured(text, index)
    spans: list[tuple[Word, str, _Span]] = []
    place = 0
    for word, content in words:
        first, last = starts[place], ends[place + len(content)]
        spans.append((word, content, (first, last - first)))
        place += len(content) + 1
    return _PlacedLine(line, text, ends[len(text)], spans)


def _measured(text: str, index: StringIndex) -> tuple[Sequence[int], Sequence[int]]:
    """How many units a line has before each place: those that end there, those that begin before.

    The two differ only within a unit. A line break parts units, so lines can be measured alone.
    """
    if index == "unicodeCodePoint" or text.isascii():
        whole = range(len(text) + 1)
        return whole, whole
    if index == "utf16CodeUnit":
        units = [0, *accumulate(2 if char > "\uffff" else 1 for char in text)]
        return units, units
    ended: list[int] = []
    begun: list[int] = []
    count = 0
    for cluster in _CLUSTER.finditer(text):
        inside = cluster.end() - cluster.start() - 1
        ended += [count] * (inside + 1)
        begun += [count] + [count + 1] * inside
        count += 1
    return [*ended, count], [*begun, count]


@dataclass(slots=True)
class _Place:
    """How far the content is told; each page with text but the first follows a line break."""

    offset: int = 0
    begun: bool = False

    def begin_page(self) -> None:
        self.offset += self.begun
        self.begun = True

    def take(self, line: _PlacedLine, first: bool) -> int:
        """The offset of a line that comes next, the first of its page or not."""
        start = self.offset + (not first)
        self.offset = start + line.length
        return start


# What stands there


def _pages(pages: Iterable[Page], form: Form) -> Iterator[dict[str, object]]:
    place = _Place()
    for page in pages:
        shape = _Shape(page, form)
        words: list[dict[str, object]] = []
        lines: list[dict[str, object]] = []
        placed = [line for part in _placed(shape.page, form.index) for line in part]
        if placed:
            place.begin_page()
        begin = place.offset
        for line in placed:
            start = place.take(line, first=not lines)
            lines.append(
                {
                    "content": line.text,
                    "polygon": shape.polygon(line.line.box),
                    "spans": [_span(start, line.length)],
                }
            )
            words += [
                {
                    "content": text,
                    "polygon": shape.polygon(word.box),
                    "confidence": 1 if word.confidence is None else round(word.confidence, 3),
                    "span": _span(start + offset, length),
                }
                for word, text, (offset, length) in line.words
            ]
        spans = [_span(begin, place.offset - begin)] if placed else []
        beside: dict[str, object] = {"words": words, "lines": lines, "spans": spans}
        yield {"pageNumber": page.number, **shape.size, **beside}


def _paragraphs(
    pages: Iterable[Page], form: Form, languages: dict[str, _Language]
) -> Iterator[dict[str, object]]:
    place = _Place()
    for page in pages:
        shape = _Shape(page, form)
        parts = _placed(shape.page, form.index)
        if parts:
            place.begin_page()
        for number, part in enumerate(parts):
            begin = place.take(part[0], first=number == 0)
            for line in part[1:]:
                place.take(line, first=False)
            length = place.offset - begin
            tag = bcp47(part.paragraph.language or "") if form.languages else None
            if tag:
                languages.setdefault(tag, _Language()).add(begin, length, part.paragraph)
            yield {
                "spans": [_span(begin, length)],
                "boundingRegions": [
                    {"pageNumber": page.number, "polygon": shape.polygon(part.paragraph.box)}
                ],
                "content": " ".join(line.text for line in part),
            }


def _span(offset: int, length: int) -> dict[str, int]:
    return {"offset": offset, "length": length}


class _Shape:
    """How a page lies and is measured: as it was sent, also where it was turned to be read."""

    def __init__(self, page: Page, form: Form) -> None:
        turn = page.rotation % 360
        sides = (page.height, page.width) if turn in (90, 270) else (page.width, page.height)
        self.page = in_image(page, *sides)
        self._per_unit = 1.0 if form.in_pixels else page.dpi
        self._first = turn // 90
        self.size: dict[str, object] = {
            "angle": turn - 360 if turn > 180 else turn,
            "width": self._measure(sides[0]),
            "height": self._measure(sides[1]),
            "unit": "pixel" if form.in_pixels else "inch",
        }

    def polygon(self, box: Box) -> list[float]:
        """The corners of a box, clockwise, from where its text begins at the top."""
        left, top, right, bottom = map(self._measure, box)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        turned = corners[self._first :] + corners[: self._first]
        return [side for corner in turned for side in corner]

    def _measure(self, pixels: int) -> float:
        return round(pixels / self._per_unit, 4)


@dataclass(slots=True)
class _Language:
    """Where a language is in the content; what follows itself is one span."""

    spans: list[dict[str, int]] = field(default_factory=list)
    sure: float = 0.0
    letters: int = 0

    def add(self, offset: int, length: int, paragraph: Paragraph) -> None:
        last = self.spans[-1] if self.spans else None
        if last and last["offset"] + last["length"] + 1 == offset:
            last["length"] = offset + length - last["offset"]
        else:
            self.spans.append(_span(offset, length))
        for word in (word for line in paragraph.lines for word in line.words):
            self.sure += len(word.text) * (1 if word.confidence is None else word.confidence)
            self.letters += len(word.text)

    def told(self, tag: str) -> dict[str, object]:
        """Tesseract chooses the language that it reads with more confidence: so this is that."""
        return {
            "locale": tag,
            "spans": self.spans,
            "confidence": round(self.sure / max(1, self.letters), 3),
        }
