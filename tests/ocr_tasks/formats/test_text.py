from __future__ import annotations

from collections.abc import Iterator

from ocr_tasks.formats import text
from ocr_tasks.formats.page import Page


def test_lines_stay_lines_and_paragraphs_are_separated(scanned: Page) -> None:
    written = text.page_text(scanned)
    assert written.startswith("We went tip-toeing along a path amongst\nthe trees back")
    assert written.count("\n\n") == sum(1 for _ in scanned.paragraphs) - 1
    assert written.split() == [word.text for word in scanned.words]


def test_hostile_text_keeps_its_words_and_loses_its_control_characters(
    hostile: Page, hostile_words: list[str]
) -> None:
    assert text.page_text(hostile) == (
        " ".join(hostile_words[:6]) + "\n\n" + " ".join(hostile_words[6:])
    )


def test_the_nth_part_is_the_nth_page(scanned: Page, hostile: Page) -> None:
    pages = [scanned, Page.empty(2, 10, 10, 300), hostile, Page.empty(4, 10, 10, 300)]
    parts = "".join(text.document(pages)).split("\f")
    assert [part.rstrip("\n") for part in parts] == [text.page_text(page) for page in pages]
    assert parts[0].endswith("\n")


def test_zero_pages_have_no_text() -> None:
    assert "".join(text.document([])) == ""


def test_a_document_of_5000_pages_is_written_page_by_page(hostile: Page) -> None:
    taken = 0

    def pages() -> Iterator[Page]:
        nonlocal taken
        for _ in range(5000):
            taken += 1
            yield hostile

    for expected, _ in enumerate(text.document(pages()), start=1):
        assert taken == expected
    assert taken == 5000
