"""The result of an analysis in the format of Azure Document Intelligence, `AnalyzeResult`.

Specification of api-version 2024-11-30:
https://github.com/Azure/azure-rest-api-specs/blob/main/specification/ai/data-plane/DocumentIntelligence/stable/2024-11-30/DocumentIntelligence.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import regex

from ocr_tasks.formats.image_coordinates import in_image
from ocr_tasks.formats.language import bcp47
from ocr_tasks.formats.page import Box, Line, Page, Paragraph, Word
from ocr_tasks.formats.writing import plain

API_VERSION = "2024-11-30"
MODEL = "prebuilt-read"

StringIndex = Literal["textElements", "unicodeCodePoint", "utf16CodeUnit"]

_CLUSTER = regex.compile(r"\X")

#: Offset and length in the content, in units of the string index.
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning about a page."""

    code: str
    message: str
    page: int


@dataclass(frozen=True, slots=True)
class Form:
    """The format of a result.

    `index`: unit of offsets; text elements are grapheme clusters. `in_pixels`: lengths are in
    pixels instead of inches. `languages`: whether to include the languages of the text.
    """

    index: StringIndex = "textElements"
    in_pixels: bool = False
    languages: bool = False
    warnings: Sequence[Warned] = ()


def document(pages: Callable[[], Iterable[Page]], form: Form) -> Iterator[str]:
    """Yields the result as JSON, page by page.

    `pages` returns a new iterator over the pages with each call. It is called three times: for the
    content, the pages and the paragraphs. Only one page is in memory at a time.

    As with Azure, the content has a line break between lines and between pages with text. Words of
    a PDF's own text layer have no confidence; it is set to 1, because the format requires one.
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
        yield f',"languages":{_json([row.body(tag) for tag, row in found.items()])}'
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


# Positions in the content


@dataclass(frozen=True, slots=True)
class _PlacedLine:
    """A line with its text, its length in units, and the spans of its words within the line."""

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
    """Returns the paragraphs of a page that have text."""
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
    starts, ends = _unit_counts(text, index)
    spans: list[tuple[Word, str, _Span]] = []
    place = 0
    for word, content in words:
        first, last = starts[place], ends[place + len(content)]
        spans.append((word, content, (first, last - first)))
        place += len(content) + 1
    return _PlacedLine(line, text, ends[len(text)], spans)


def _unit_counts(text: str, index: StringIndex) -> tuple[Sequence[int], Sequence[int]]:
    """Returns, for each position in a line, the number of units that end and that start before it.

    The numbers differ only inside a unit. Units never cross a line break, so lines can be measured
    separately.
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
class _Position:
    """The current offset in the content. A line break separates pages with text."""

    offset: int = 0
    begun: bool = False

    def begin_page(self) -> None:
        self.offset += self.begun
        self.begun = True

    def advance(self, line: _PlacedLine, first: bool) -> int:
        """Advances by a line; returns its offset. `first`: it is the first line of its page."""
        start = self.offset + (not first)
        self.offset = start + line.length
        return start


# Pages and paragraphs


def _pages(pages: Iterable[Page], form: Form) -> Iterator[dict[str, object]]:
    position = _Position()
    for page in pages:
        geometry = _Geometry(page, form)
        words: list[dict[str, object]] = []
        lines: list[dict[str, object]] = []
        placed = [line for part in _placed(geometry.page, form.index) for line in part]
        if placed:
            position.begin_page()
        begin = position.offset
        for line in placed:
            start = position.advance(line, first=not lines)
            lines.append(
                {
                    "content": line.text,
                    "polygon": geometry.polygon(line.line.box),
                    "spans": [_span(start, line.length)],
                }
            )
            words += [
                {
                    "content": text,
                    "polygon": geometry.polygon(word.box),
                    "confidence": 1 if word.confidence is None else round(word.confidence, 3),
                    "span": _span(start + offset, length),
                }
                for word, text, (offset, length) in line.words
            ]
        spans = [_span(begin, position.offset - begin)] if placed else []
        contents: dict[str, object] = {"words": words, "lines": lines, "spans": spans}
        yield {"pageNumber": page.number, **geometry.size, **contents}


def _paragraphs(
    pages: Iterable[Page], form: Form, languages: dict[str, _Language]
) -> Iterator[dict[str, object]]:
    position = _Position()
    for page in pages:
        geometry = _Geometry(page, form)
        parts = _placed(geometry.page, form.index)
        if parts:
            position.begin_page()
        for number, part in enumerate(parts):
            begin = position.advance(part[0], first=number == 0)
            for line in part[1:]:
                position.advance(line, first=False)
            length = position.offset - begin
            tag = bcp47(part.paragraph.language or "") if form.languages else None
            if tag:
                languages.setdefault(tag, _Language()).add(begin, length, part.paragraph)
            yield {
                "spans": [_span(begin, length)],
                "boundingRegions": [
                    {"pageNumber": page.number, "polygon": geometry.polygon(part.paragraph.box)}
                ],
                "content": " ".join(line.text for line in part),
            }


def _span(offset: int, length: int) -> dict[str, int]:
    return {"offset": offset, "length": length}


class _Geometry:
    """The geometry of a page as it was uploaded, even if it was rotated for OCR."""

    def __init__(self, page: Page, form: Form) -> None:
        turn = page.rotation % 360
        sides = (page.height, page.width) if turn in (90, 270) else (page.width, page.height)
        self.page = in_image(page, *sides)
        self._per_unit = 1.0 if form.in_pixels else page.dpi
        self._first_corner = turn // 90
        self.size: dict[str, object] = {
            "angle": turn - 360 if turn > 180 else turn,
            "width": self._measure(sides[0]),
            "height": self._measure(sides[1]),
            "unit": "pixel" if form.in_pixels else "inch",
        }

    def polygon(self, box: Box) -> list[float]:
        """Returns the corners of a box clockwise, starting at the top left of its text."""
        left, top, right, bottom = map(self._measure, box)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        turned = corners[self._first_corner :] + corners[: self._first_corner]
        return [side for corner in turned for side in corner]

    def _measure(self, pixels: int) -> float:
        return round(pixels / self._per_unit, 4)


@dataclass(slots=True)
class _Language:
    """The spans of a language in the content. Adjacent spans are merged."""

    spans: list[dict[str, int]] = field(default_factory=list)
    confidence: float = 0.0
    letters: int = 0

    def add(self, offset: int, length: int, paragraph: Paragraph) -> None:
        last = self.spans[-1] if self.spans else None
        if last and last["offset"] + last["length"] + 1 == offset:
            last["length"] = offset + length - last["offset"]
        else:
            self.spans.append(_span(offset, length))
        for word in (word for line in paragraph.lines for word in line.words):
            self.confidence += len(word.text) * (1 if word.confidence is None else word.confidence)
            self.letters += len(word.text)

    def body(self, tag: str) -> dict[str, object]:
        """Returns the JSON object of the language.

        Tesseract selects the language with the highest confidence, so its confidence is the mean
        confidence of the words, weighted by their length.
        """
        return {
            "locale": tag,
            "spans": self.spans,
            "confidence": round(self.confidence / max(1, self.letters), 3),
        }
