"""Several files at once on the web page: one combined document, or a batch with one ZIP."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.acceptance.conftest import picture, row, visit
from tests.conftest import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    with visit(browser, stack) as opened:
        expect(opened.get_by_label("English")).to_be_visible()
        yield opened


def choose(page: Page, *names: str) -> Locator:
    """Selects files; returns the dialog that asks how to process them."""
    files = [picture(name, Path(name).stem) for name in names]
    page.get_by_label("Choose files").set_input_files(files)
    return page.get_by_role("dialog", name=f"{len(names)} files")


def card(page: Page, number: int) -> Locator:
    heading = page.get_by_role("heading", name=f"{number} documents")
    return page.locator("li.batch").filter(has=heading).first


def test_a_batch_has_one_entry_and_one_zip_and_survives_a_reload(
    page: Page, tmp_path: Path
) -> None:
    asked = choose(page, "b-10.png", "b-9.png")
    expect(asked.get_by_text("From b-9.png to b-10.png")).to_be_visible()
    expect(asked.get_by_role("button", name="As separate documents")).to_be_focused()
    page.keyboard.press("Enter")
    batch = card(page, 2)
    expect(batch.get_by_role("progressbar").first).to_be_visible()
    expect(batch.get_by_text("All done")).to_be_visible()
    expect(row(page, "b-9.png")).to_be_hidden()
    page.reload()
    expect(batch.get_by_text("All done")).to_be_visible()
    batch.get_by_text("Show documents").click()
    names = batch.get_by_role("heading", level=3).all_inner_texts()
    assert names == ["2 documents", "b-9.png", "b-10.png"]
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "batch.png")

    with page.expect_download() as download:
        batch.get_by_role("link", name="Download ZIP").click()
    download.value.save_as(tmp_path / "out.zip")
    assert download.value.suggested_filename == "documents.zip"
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        assert packed.testzip() is None
        assert sorted(packed.namelist()) == ["b-10.pdf", "b-9.pdf"]


def test_a_batch_is_cancelled_and_deleted_after_confirmation(page: Page) -> None:
    choose(page, "c-1.png", "c-2.png", "c-3.png")
    page.get_by_role("button", name="As separate documents").click()
    batch = card(page, 3)
    batch.get_by_role("button", name=re.compile("^(Cancel|Delete) all")).wait_for()
    expect(batch.get_by_role("button", name=re.compile("^Delete all"))).to_be_visible()
    batch.get_by_role("button", name=re.compile("^Delete all")).click()
    page.get_by_role("button", name="Keep").click()
    expect(batch).to_be_visible()
    batch.get_by_role("button", name=re.compile("^Delete all")).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete all").click()

    for number in (1, 2, 3):
        heading = page.get_by_role("heading", name=f"c-{number}.png", include_hidden=True)
        expect(heading).to_have_count(0)
    expect(page.get_by_role("heading", name=re.compile("documents?$"), level=3)).to_have_count(0)
    # The focus is on the next entry, or on the file input.
    expect(page.locator("body:focus")).to_have_count(0)


def test_a_refused_file_of_a_batch_is_shown_and_can_be_dismissed(page: Page) -> None:
    broken = {"name": "d-2.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 <"}
    page.get_by_label("Choose files").set_input_files([picture("d-1.png", "d"), broken])
    page.get_by_role("button", name="As separate documents").click()
    expect(row(page, "d-2.pdf").get_by_text("save it as a new file")).to_be_visible()
    row(page, "d-2.pdf").get_by_role("button", name=re.compile("^Dismiss")).click()

    expect(page.get_by_role("heading", name="d-2.pdf")).to_have_count(0)
    expect(row(page, "d-1.png").get_by_text("Done in")).to_be_visible()


def test_one_combined_pdf_is_ordered_by_the_numbers_in_file_names(page: Page) -> None:
    choose(page, "e-10.png", "e-9.png")
    page.get_by_role("button", name="As one PDF").click()
    job = row(page, "e-9.png")
    expect(job.get_by_text("2 pages")).to_be_visible()
    expect(job.get_by_text("Done in")).to_be_visible()
    job.get_by_role("button", name=re.compile("^View:")).click()

    expect(page.get_by_label("Text of the page")).to_contain_text("9")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Text of the page")).to_contain_text("10")


def test_the_dialog_can_be_closed(page: Page) -> None:
    page.get_by_label("Choose files").focus()
    asked = choose(page, "f-1.png", "f-2.png")
    expect(asked).to_be_visible()
    page.keyboard.press("Escape")

    expect(asked).to_be_hidden()
    expect(page.get_by_role("heading", name="f-1.png")).to_have_count(0)
    expect(page.get_by_label("Choose files")).to_be_focused()
