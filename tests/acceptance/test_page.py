"""The web page in a real Chromium."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import documents
from tests.acceptance.conftest import (
    ask_for_fault,
    newest_job,
    open_gate,
    picture,
    row,
    visit,
)
from tests.acceptance.test_main_job import text_of
from tests.conftest import DATA, Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

SCAN = DATA / "huckleberry-finn-p22.pdf"


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    with visit(browser, stack) as opened:
        expect(opened.get_by_label("English")).to_be_visible()
        yield opened


def test_a_scan_is_uploaded_processed_and_downloaded(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Choose files").set_input_files(SCAN)
    job = row(page, SCAN.name)
    expect(job.get_by_text("Done in")).to_be_visible()

    with page.expect_download() as download:
        job.get_by_role("link", name=re.compile("Download PDF")).click()
    pdf = tmp_path / "out.pdf"
    download.value.save_as(pdf)

    assert download.value.suggested_filename == "huckleberry-finn-p22.pdf"
    assert "garden" in text_of(pdf.read_bytes())


def test_the_bar_moves_page_by_page_and_finished_pages_can_be_viewed(
    page: Page, stack: Stack
) -> None:
    name = "moves.pdf"
    document = documents.scan("A garden", "A kitchen and a door", "Another")
    ask_for_fault(page, "fault: gate")
    page.get_by_label("Choose files").set_input_files(
        {"name": name, "mimeType": "application/pdf", "buffer": document}
    )
    job = row(page, name)
    bar = job.get_by_role("progressbar")
    percents = []
    for done in (0, 1, 2):
        if done:
            open_gate(stack, newest_job(stack, name), done)
        expect(job.get_by_text(f"Running OCR · page {done + 1} of 3")).to_be_visible()
        percents.append(int(bar.get_attribute("aria-valuenow") or 0))
    job.get_by_role("button", name=re.compile("^View")).click()
    viewer = page.get_by_role("dialog", name=name)
    expect(viewer.get_by_text(re.compile("Page 1: (done|waiting)"))).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_label("Page number")).to_have_value("2")
    expect(viewer.get_by_text(re.compile("Page 2: done, .* confidence"))).to_be_visible()
    expect(viewer.get_by_role("img", name="Image of page 2")).to_be_visible()
    expect(viewer.get_by_label("Text of the page")).to_have_text("A kitchen and a door")
    picture_of_viewer = os.environ.get("OCR_SCREENSHOTS")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    open_gate(stack, newest_job(stack, name))
    expect(job.get_by_text("Done in")).to_be_visible()

    assert 0 <= percents[0] < percents[1] < percents[2] < 100
    if picture_of_viewer:
        job.get_by_role("button", name=re.compile("^View")).click()
        viewer.get_by_role("button", name=re.compile("^Page 2,")).click()
        page.wait_for_timeout(500)
        page.screenshot(path=Path(picture_of_viewer) / "viewer.png")


def test_jobs_survive_a_reload_and_have_links(page: Page, stack: Stack) -> None:
    page.get_by_label("Choose files").set_input_files([picture("kept.png", "remember me")])
    job = row(page, "kept.png")
    expect(job.get_by_text("Done in")).to_be_visible()
    page.reload()
    expect(job.get_by_text("Done in")).to_be_visible()
    job.get_by_role("button", name=re.compile("^View")).click()
    expect(page.get_by_role("dialog", name="kept.png")).to_be_visible()
    link = page.url
    assert "#job=" in link

    page.goto("about:blank")
    page.goto(link)

    viewer = page.get_by_role("dialog", name="kept.png")
    expect(viewer.get_by_label("Text of the page")).to_contain_text("remember me")


def test_a_running_job_is_cancelled_retried_and_deleted(page: Page) -> None:
    ask_for_fault(page, "fault: gate")
    page.get_by_label("Choose files").set_input_files([picture("again.png", "again")])
    job = row(page, "again.png")
    expect(job.get_by_text(re.compile("^Running OCR"))).to_be_visible()
    job.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(job.get_by_text("Cancelled", exact=True)).to_be_visible()
    job.get_by_role("button", name=re.compile("^Retry")).click()
    expect(job.get_by_role("button", name=re.compile("^Cancel"))).to_be_visible()
    job.get_by_role("button", name=re.compile("^Cancel")).click()
    job.get_by_role("button", name=re.compile("^Delete")).click()

    expect(page.get_by_role("heading", name="again.png")).to_have_count(0)


def test_a_refused_file_shows_what_to_do(page: Page) -> None:
    nothing = {"name": "nothing.pdf", "mimeType": "application/pdf", "buffer": b""}
    broken = {"name": "<b>broken</b>.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 <"}
    page.get_by_label("Choose files").set_input_files([nothing, broken])
    page.get_by_role("button", name="As separate documents").click()

    expect(row(page, "nothing.pdf").get_by_text("is empty")).to_be_visible()
    refused = row(page, "<b>broken</b>.pdf")
    expect(refused.get_by_text("save it as a new file")).to_be_visible()
    refused.get_by_role("button", name=re.compile("^Dismiss")).click()
    expect(page.get_by_role("heading", name="<b>broken</b>.pdf")).to_have_count(0)


def test_settings_are_remembered(page: Page) -> None:
    page.get_by_label("German").check()
    page.get_by_label("English").uncheck()
    page.get_by_label("Straighten").check()
    page.reload()

    expect(page.get_by_label("German")).to_be_checked()
    expect(page.get_by_label("English")).not_to_be_checked()
    expect(page.get_by_label("Straighten")).to_be_checked()
    page.get_by_text("More options").click()
    page.get_by_role("button", name="Reset all options").click()
    expect(page.get_by_label("English")).to_be_checked()


def test_the_page_can_be_used_with_the_keyboard_alone(page: Page) -> None:
    page.get_by_label("Choose files").set_input_files([picture("keys.png", "keyboard")])
    expect(row(page, "keys.png").get_by_text("Done in")).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if label == "View: keys.png":
            break
    page.keyboard.press("Enter")

    expect(page.get_by_role("dialog", name="keys.png")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="keys.png")).to_be_hidden()


def test_a_lost_connection_is_reported_and_recovers(page: Page) -> None:
    page.context.set_offline(True)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_text("Connection lost, retrying")).to_be_visible()
    page.context.set_offline(False)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(page.get_by_text("Connection lost, retrying")).to_be_hidden()


def test_the_api_pages_need_no_other_hosts(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/docs")
    expect(page.get_by_role("heading", name="Errors")).to_be_visible()
    assert page.locator("#error-pdf_encrypted").inner_text().startswith("pdf_encrypted")
    page.goto(f"{stack.url}/docs/api/swagger")

    expect(page.get_by_text("Create a job.").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_layout_fits_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 740})
    name = "a-very-long-name-without-a-break-" * 5 + ".png"
    page.get_by_label("Choose files").set_input_files([picture(name, "phone")])
    expect(row(page, name).get_by_text("Done in")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 390, "height": 840})
    more = row(page, name).get_by_text("More")
    more.click()
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"phone-more-{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    more.click()
    page.set_viewport_size({"width": 360, "height": 740})
    row(page, name).get_by_role("button", name=re.compile("^View")).click()
    text = page.get_by_label("Text of the page")
    expect(text).to_contain_text("phone")
    image = page.get_by_role("img", name="Image of page 1")
    expect(image).to_be_visible()
    above, below = image.bounding_box(), text.bounding_box()
    assert above
    assert below
    assert below["y"] >= above["y"] + above["height"]
    assert below["x"] + below["width"] <= 360
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"phone-{scheme}.png")


def test_a_link_to_an_unknown_document_keeps_showing_that_it_is_unknown(page: Page) -> None:
    page.evaluate("location.hash = 'job=00000000-0000-4000-8000-000000000000'")
    notice = page.get_by_text("The job does not exist.")
    expect(notice).to_be_visible()
    with page.expect_response(re.compile(r"/v1/jobs\?limit")):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(notice).to_be_visible()


def test_many_files_are_uploaded_one_after_the_other(page: Page) -> None:
    page.evaluate(
        """() => {
          const send = XMLHttpRequest.prototype.send;
          window.sending = window.mostSending = 0;
          XMLHttpRequest.prototype.send = function (body) {
            window.mostSending = Math.max(window.mostSending, ++window.sending);
            const ended = () => this.readyState === 4 && --window.sending;
            this.addEventListener("readystatechange", ended);
            send.call(this, body);
          };
        }"""
    )
    page.get_by_label("Choose files").set_input_files(
        [picture(f"turn-{number}.png", f"turn {number}") for number in range(4)]
    )
    page.get_by_role("button", name="As separate documents").click()
    page.get_by_text("Show documents").first.click()
    for number in range(4):
        expect(row(page, f"turn-{number}.png").get_by_text("Done in")).to_be_visible()

    assert page.evaluate("window.mostSending") == 2
