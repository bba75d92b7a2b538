"""Azure's result, as its own SDK parses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import regex
from azure.ai.documentintelligence.models import AnalyzeResult

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word
from web.dialects.azure_result import Form, StringIndex, Warned, document

#: Strings in the units that a string index counts, and such units as strings again.
UNITS: dict[StringIndex, Callable[[str], list[Any]]] = {
    "textElements": lambda text: regex.findall(r"\X", text),
    "unicodeCodePoint": list,
    "utf16CodeUnit": lambda text: [
        text.encode("utf-16-le")[place : place + 2]
        for place in range(0, len(text.encode("utf-16-le")), 2)
    ],
}


def told(units: list[Any]) -> str:
    if units and isinstance(units[0], bytes):
        return b"".join(units).decode("utf-16-le")
    return "".join(units)


def result(*pages: Page, **form: Any) -> AnalyzeResult:
    """Parses the result with the classes of the SDK."""
    return AnalyzeResult(json.loads("".join(document(lambda: pages, Form(**form)))))


def page_of(*lines: str, language: str | None = None, number: int = 1, rotation: int = 0) -> Page:
    """Returns a page with a paragraph of one word per part of a line."""
    rows = []
    for row, text in enumerate(lines):
        words = tuple(
            Word(word, (place * 50, row * 20, place * 50 + 40, row * 20 + 10), 0.9)
            for place, word in enumerate(text.split(" "))
        )
        rows.append(Line((0, row * 20, 200, row * 20 + 10), None, words))
    box: Box = (0, 0, 200, 100)
    block = Block(box, (Paragraph(box, language, None, tuple(rows)),))
    return Page(number, 300, 200, 100.0, (block,), "ocr", rotation)


def check_spans(read: AnalyzeResult, index: StringIndex) -> None:
    """Checks that each span selects the content of its element."""
    units = UNITS[index](read.content)

    def at(span: Any) -> str:
        assert span.length > 0
        return told(units[span.offset : span.offset + span.length])

    for page in read.pages:
        for word in page.words or ():
            assert at(word.span) == word.content
        for line in page.lines or ():
            assert at(line.spans[0]) == line.content
        if page.lines:
            assert at(page.spans[0]) == "\n".join(line.content for line in page.lines)
    for paragraph in read.paragraphs or ():
        assert at(paragraph.spans[0]).replace("\n", " ") == paragraph.content


@pytest.mark.parametrize("index", UNITS)
def test_spans_select_their_words(scanned: Page, hostile: Page, index: StringIndex) -> None:
    combined = page_of("noe\u0308l 👩‍👩‍👧 🇩🇪", "한글 plain", number=9)
    empty = Page.empty(8, 10, 20, 300)

    read = result(scanned, hostile, empty, combined, index=index)

    assert read.string_index_type == index
    check_spans(read, index)
    assert [page.page_number for page in read.pages] == [1, 7, 8, 9]
    assert [len(page.spans) for page in read.pages] == [1, 1, 0, 1]
    units = UNITS[index](read.content)
    last = read.pages[3].spans[0]
    assert last.offset + last.length == len(units)


def test_a_combining_mark_after_a_space_is_in_one_element_with_it() -> None:
    read = result(page_of("a \u0301b c"))

    first, second, third = read.pages[0].words or ()
    assert [(w.span.offset, w.span.length) for w in (first, second, third)] == [
        *((0, 1), (1, 2), (4, 1))
    ]


def test_the_result_has_every_word_with_its_position(scanned: Page) -> None:
    read = result(scanned)

    assert (read.api_version, read.model_id) == ("2024-11-30", "prebuilt-read")
    assert (read.content_format, read.styles, read.languages) == ("text", [], None)
    (page,) = read.pages
    assert (page.unit, page.angle) == ("inch", 0)
    assert page.width == pytest.approx(scanned.width / 150, abs=0.0001)
    words = page.words or []
    for written, word in zip(words, scanned.words, strict=True):
        left, top, right, bottom = (round(side / 150, 4) for side in word.box)
        assert written.polygon == [left, top, right, top, right, bottom, left, bottom]
        assert written.confidence == pytest.approx(word.confidence, abs=0.001)
    lines = page.lines or []
    assert "\n".join(line.content for line in lines) == read.content
    paragraphs = read.paragraphs or []
    assert len(paragraphs) == len(list(scanned.paragraphs))
    region = (paragraphs[0].bounding_regions or [])[0]
    assert (region.page_number, len(region.polygon)) == (1, 8)


def test_an_image_is_measured_in_pixels(scanned: Page) -> None:
    (page,) = result(scanned, in_pixels=True).pages

    assert (page.unit, page.width, page.height) == ("pixel", scanned.width, scanned.height)
    word = (page.words or [])[0]
    assert (word.polygon or [])[:2] == list(next(scanned.words).box[:2])


def test_hostile_text_is_preserved_as_text(hostile: Page, hostile_words: list[str]) -> None:
    (page,) = result(hostile).pages

    words = page.words or []
    assert [word.content for word in words] == hostile_words
    # The format requires a confidence even if none was measured.
    assert words[1].confidence == 1


@pytest.mark.parametrize(
    ("rotation", "angle", "size", "corners"),
    [
        (0, 0, (3, 2), [0, 0, 0.4, 0, 0.4, 0.1, 0, 0.1]),
        (90, 90, (2, 3), [2, 0, 2, 0.4, 1.9, 0.4, 1.9, 0]),
        (180, 180, (3, 2), [3, 2, 2.6, 2, 2.6, 1.9, 3, 1.9]),
        (270, -90, (2, 3), [0, 3, 0, 2.6, 0.1, 2.6, 0.1, 3]),
    ],
)
def test_the_result_of_a_rotated_page_describes_it_as_it_was_uploaded(
    rotation: int, angle: int, size: tuple[int, int], corners: list[float]
) -> None:
    (page,) = result(page_of("word", rotation=rotation)).pages

    assert (page.angle, page.width, page.height) == (angle, *size)
    assert (page.words or [])[0].polygon == corners


def test_languages_are_returned_on_request() -> None:
    pages = [
        page_of("guten Tag", language="deu"),
        page_of("gute Nacht", language="deu", number=2),
        page_of("good night", language="eng", number=3),
        page_of("? !", language="eng+deu", number=4),
        page_of("guten Morgen", language="deu", number=5),
    ]

    languages = result(*pages, languages=True).languages or []

    assert [
        (row.locale, [(span.offset, span.length) for span in row.spans], row.confidence)
        for row in languages
    ] == [("de", [(0, 20), (36, 12)], 0.9), ("en", [(21, 10)], 0.9)]


def test_failed_pages_are_reported_as_warnings() -> None:
    warning = Warned("page_timeout", "It took too long", 2)

    read = result(page_of("one"), Page.empty(2, 0, 0, 300), warnings=[warning])

    (row,) = read.warnings or []
    assert (row.code, row.message, row.target) == ("page_timeout", "It took too long", "2")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_pages_makes_one_document(count: int) -> None:
    read = result(*(page_of("word", number=number) for number in range(1, count + 1)))

    assert read.content == "\n".join(["word"] * count)
    assert len(read.pages) == len(read.paragraphs or []) == count
