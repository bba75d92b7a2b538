from __future__ import annotations

import json
from typing import Any

import pytest

from ocr_tasks.formats.page import Block, Line, Page, Paragraph, Word

BOX = (0, 0, 10, 10)


def _page(*words: Word) -> Page:
    paragraph = Paragraph(BOX, None, None, (Line(BOX, None, words),))
    return Page(1, 10, 10, 300.0, (Block(BOX, (paragraph,)),), "ocr")


def test_a_page_survives_a_round_trip_through_json(scanned: Page) -> None:
    odd = _page(Word("nul\x00 \uffff 😀 שלום", BOX, None), Word("", BOX, 1))
    for page in (scanned, odd, Page.empty(3, 10, 20, 299.97)):
        assert Page.from_json(page.to_json()) == page


def test_a_stored_page_is_compact(scanned: Page) -> None:
    stored = scanned.to_json()
    words = sum(1 for _ in scanned.words)
    assert len(stored) < 50 * words


def test_words_are_in_reading_order(scanned: Page) -> None:
    assert [word.text for word in scanned.words][:4] == ["We", "went", "tip-toeing", "along"]
    assert list(scanned.words) == [word for line in scanned.lines for word in line.words]


def test_a_long_word_counts_more_in_the_confidence_of_a_page() -> None:
    page = _page(Word("a", BOX, 0.0), Word("abc", BOX, 1.0))
    assert page.confidence == pytest.approx(0.75)


def test_words_without_confidence_do_not_count_in_the_confidence_of_a_page() -> None:
    assert _page(Word("a", BOX, 0.5), Word("b", BOX, None)).confidence == pytest.approx(0.5)


@pytest.mark.parametrize("words", [(), (Word("a", BOX, None),), (Word("", BOX, 0.5),)])
def test_a_page_without_measured_words_has_no_confidence(words: tuple[Word, ...]) -> None:
    assert _page(*words).confidence is None


def test_an_empty_page_has_a_size_and_no_words() -> None:
    page = Page.empty(2, 100, 200, 300.0)
    assert (page.number, page.width, page.height, page.source) == (2, 100, 200, "none")
    assert list(page.words) == []


@pytest.mark.parametrize("dpi", [0, -1, float("nan"), float("inf")])
def test_a_page_without_a_resolution_is_refused(dpi: float) -> None:
    with pytest.raises(ValueError, match="dpi"):
        Page.empty(1, 10, 10, dpi)


def test_pages_count_from_one() -> None:
    with pytest.raises(ValueError, match="number 0"):
        Page.empty(0, 10, 10, 300)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", None),
        ("number", True),
        ("width", 1.5),
        ("dpi", "300"),
        ("source", "guess"),
        ("source", []),
        ("blocks", {}),
        ("blocks", [[[0, 0, 1], []]]),
        ("blocks", [[[0, 0, 1, 1]]]),
        ("blocks", [[[0, 0, 1, 1], [[[0, 0, 1, 1], "eng", "up", []]]]]),
        ("blocks", [[[0, 0, 1, 1], [[[0, 0, 1, 1], 5, None, []]]]]),
    ],
)
def test_invalid_json_of_a_page_is_refused(field: str, value: Any) -> None:
    stored = json.loads(_page().to_json()) | {field: value}
    with pytest.raises(ValueError, match="stored page: "):
        Page.from_json(json.dumps(stored).encode())


@pytest.mark.parametrize("data", ["null", "[]", '"page"', "{", ""])
def test_json_that_is_not_an_object_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match="stored page: "):
        Page.from_json(data.encode())


def test_a_page_that_an_earlier_version_stored_can_be_loaded() -> None:
    stored = (
        b'{"number":1,"width":10,"height":10,"dpi":300,"source":"ocr","rotation":0,'
        b'"blocks":[[[0,0,10,10],[[[0,0,10,10],"eng",null,[[[0,0,10,10],[0,-1],'
        b'[["word",[0,0,10,10],1]]]]]]]]}'
    )
    page = Page.from_json(stored)
    assert [word.text for word in page.words] == ["word"]
    assert page.blocks[0].paragraphs[0].lines[0].baseline == (0, -1)
