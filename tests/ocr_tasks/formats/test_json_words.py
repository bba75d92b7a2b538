from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ocr_tasks.formats import json_words
from ocr_tasks.formats.page import Page
from ocr_tasks.formats.text import page_text


def test_the_document_has_every_word_with_its_position(scanned: Page) -> None:
    read = json.loads("".join(json_words.document([scanned], {"file": "scan.pdf"})))
    assert (read["version"], read["file"]) == (1, "scan.pdf")
    (page,) = read["pages"]
    assert page["text"] == page_text(scanned)
    assert page["confidence"] == pytest.approx(scanned.confidence, abs=0.0001)
    assert [line["box"] for line in page["lines"]] == [list(line.box) for line in scanned.lines]
    words = [word for line in page["lines"] for word in line["words"]]
    for written, word in zip(words, scanned.words, strict=True):
        assert (written["text"], written["confidence"]) == (word.text, word.confidence)
        assert written["box"] == list(word.box)
        assert written["box_pt"] == [round(pixels * 72 / 150, 2) for pixels in word.box]


def test_a_page_has_its_size_source_and_rotation(hostile: Page) -> None:
    page = json.loads("".join(json_words.document([hostile], {})))["pages"][0]
    expected = {"page": 7, "width": 200, "height": 100, "dpi": 72.0, "source": "pdf"}
    assert page | expected | {"rotation": 90} == page


def test_hostile_text_is_preserved_as_text(hostile: Page, hostile_words: list[str]) -> None:
    written = "".join(json_words.document([hostile], {"title": '"]}\x00'})).encode()
    read = json.loads(written)
    words = [word["text"] for line in read["pages"][0]["lines"] for word in line["words"]]
    assert [text for text in words if text] == hostile_words
    assert read["title"] == '"]}\x00'


def test_an_empty_page_has_no_confidence_and_no_lines() -> None:
    read = json.loads("".join(json_words.document([Page.empty(2, 10, 20, 300)], {})))
    page = read["pages"][0]
    assert (page["confidence"], page["text"], page["lines"]) == (None, "", [])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_any_number_of_pages_makes_one_document(count: int) -> None:
    pages = [Page.empty(number, 10, 10, 300) for number in range(1, count + 1)]
    read = json.loads("".join(json_words.document(pages, {})))
    assert [page["page"] for page in read["pages"]] == list(range(1, count + 1))


@pytest.mark.parametrize("name", ["version", "pages"])
def test_the_documents_own_fields_cannot_be_overwritten(name: str) -> None:
    with pytest.raises(ValueError, match="version and pages"):
        next(json_words.document([], {name: 2}))


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        next(json_words.document([], {"seconds": float("nan")}))


def test_a_document_of_5000_pages_is_written_page_by_page(hostile: Page) -> None:
    taken = 0

    def pages() -> Iterator[Page]:
        nonlocal taken
        for _ in range(5000):
            taken += 1
            yield hostile

    chunks = json_words.document(pages(), {})
    next(chunks)
    for expected in range(1, 11):
        next(chunks)
        assert taken == expected
    assert sum(1 for _ in chunks) == 4990 + 1


@pytest.mark.parametrize(("dpi", "written"), [(150, "150"), (150.5, "150.5")])
def test_a_stored_resolution_is_written_as_it_was_made(dpi: float, written: str) -> None:
    stored = Page.empty(1, 10, 20, dpi).to_json()

    assert f'"dpi":{written},' in "".join(json_words.document([Page.from_json(stored)], {}))
