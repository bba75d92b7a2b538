"""Nextcloud's OCR backend and the OCR-with-progress demo, with the requests of their own clients.

The page of the demo is one of this project that sends the same requests, in the same order, as the
demo's own page.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from bench.upload_memory import web_processes
from tests import documents
from tests.acceptance.conftest import OtherSite, cancel_all, newest_job, open_gate
from tests.acceptance.test_main_job import text_of
from tests.conftest import DATA, SIX_PAGES, Stack, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("featured")]

#: It polls more often than the demo's own page, which makes the tests faster.
DEMO = (DATA / "progress-page.html").read_text().replace("resolve, 1000", "resolve, 100")
PATIENCE = 90_000

#: The texts that the page has shown, and the values of its progress bar.
WATCH = """() => {
  window.shown = [];
  const look = () => window.shown.push(
    [document.getElementById("progressText").innerText,
     parseInt(document.getElementById("progressBarFill").style.width)]);
  new MutationObserver(look).observe(
    document.getElementById("progressSection"),
    {subtree: true, childList: true, attributes: true});
}"""


@pytest.fixture
def http(featured: Stack) -> Iterator[httpx.Client]:
    with featured.client() as client:
        yield client


def newest(http: httpx.Client, name: str, state: str) -> Any:
    """Returns the newest job of a document with this name, if it is in this state."""
    jobs = http.get(f"/v1/jobs?state={state}").json()["jobs"]
    return next((job for job in jobs if job["input"]["name"] == name), None)


# Nextcloud


def process(http: httpx.Client, document: bytes, parameters: str) -> httpx.Response:
    files = {"file": ("scan.pdf", document, "application/pdf")}
    return http.post("/process_ocr", files=files, data={"ocrmypdf_parameters": parameters})


def test_nextcloud_gets_text_and_pdf_in_one_response(http: httpx.Client) -> None:
    document = documents.scan("garden", "spade")
    answer = process(http, document, "--skip-text --language eng --jobs 2")

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["filename", "contentType", "recognizedText", "fileContent"]
    assert (body["filename"], body["contentType"]) == ("scan.pdf", "application/pdf")
    assert body["recognizedText"].split() == ["garden", "spade"]
    assert text_of(base64.b64decode(body["fileContent"], validate=True)).split() == [
        "garden",
        "spade",
    ]
    (job,) = http.get("/v1/jobs?limit=1").json()["jobs"]
    assert (job["state"], job["options"]["priority"]) == ("succeeded", "interactive")


def test_nextcloud_is_notified_that_a_document_has_text(http: httpx.Client) -> None:
    answer = process(http, SIX_PAGES.read_bytes(), "--language eng")

    assert (answer.status_code, answer.json()["ocrMyPdfExitCode"]) == (500, 6)
    assert "page 4 already has text" in answer.json()["message"]


def test_nextcloud_gets_the_installed_languages(http: httpx.Client) -> None:
    languages = http.get("/installed_languages").json()

    assert "eng" in languages
    assert "osd" not in languages


def test_a_language_that_is_not_installed_is_refused(http: httpx.Client) -> None:
    answer = process(http, documents.scan("x"), "--language tlh")

    assert (answer.status_code, answer.json()["ocrMyPdfExitCode"]) == (500, 3)
    assert answer.json()["message"].endswith("[language_unavailable]")


def start(featured: Stack, http: httpx.Client) -> tuple[socket.socket, str]:
    """Sends a document on a client's connection; returns the connection and the running job.

    The job runs until its gate is opened.
    """
    request = httpx.Request(
        "POST",
        f"{featured.url}/process_ocr",
        files={"file": ("long.pdf", documents.scan("long"))},
        data={"ocrmypdf_parameters": "--title 'fault: gate'"},
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection(("127.0.0.1", featured.port), timeout=90)
    connection.sendall(f"POST /process_ocr HTTP/1.1\r\n{head}\r\n".encode() + request.read())

    job = wait_until(lambda: newest(http, "long.pdf", "running"))
    return connection, job["id"]


def test_a_disconnecting_client_cancels_its_job(featured: Stack, http: httpx.Client) -> None:
    connection, job_id = start(featured, http)

    connection.close()

    wait_until(lambda: http.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled")


def test_a_waiting_client_is_notified_that_the_server_is_being_stopped(
    featured: Stack, http: httpx.Client
) -> None:
    connection, job_id = start(featured, http)
    with connection, connection.makefile("rb") as answers:
        for server in web_processes(featured):
            server.terminate()
        answer = answers.read()

    assert b"[server_stopping]" in answer
    wait_until(featured.ready)
    assert http.get(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"


# The demo


def demo_page(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.goto(address)
    page.evaluate(WATCH)
    return page


@pytest.fixture(autouse=True)
def no_job_is_left(featured: Stack) -> Iterator[None]:
    yield
    with featured.client() as http:
        cancel_all(http)


def choose(page: Page, name: str, document: bytes) -> None:
    """Selects a file and presses the button, like a user."""
    kind = "image/png" if name.endswith("png") else "application/pdf"
    page.locator("#fileInput").set_input_files({"name": name, "mimeType": kind, "buffer": document})
    page.get_by_role("button", name="Start OCR").click()


def downloaded(page: Page, folder: Path) -> bytes:
    """Downloads the PDF from the link that the page shows at the end; it opens in a new window."""
    with page.context.expect_event("download") as download:
        page.get_by_text("Download PDF").click()
    assert download.value.suggested_filename == "result.pdf"
    download.value.save_as(folder / "result.pdf")
    return (folder / "result.pdf").read_bytes()


def test_two_browsers_at_once_each_see_their_own_progress(
    browser: Browser, featured: Stack, tmp_path: Path
) -> None:
    address = f"{featured.url}/its-own-page"
    html = DEMO.replace("API_URL", featured.url)
    pages: list[Page] = []
    for _ in range(2):
        context = browser.new_context(accept_downloads=True)
        context.route(address, lambda route: route.fulfill(body=html, content_type="text/html"))
        pages.append(demo_page(context, address))
    three, two = pages

    choose(three, "three.pdf", documents.scan("one", "two", "three", title="fault: gate"))
    choose(two, "two.pdf", documents.scan("garden", "spade"))
    for done in (1, 2):
        open_gate(featured, newest_job(featured, "three.pdf"), done)
        expect(three.get_by_text(f"OCR — {done} / 3 page")).to_be_visible()
    # Until here, each process may have had a page of the other document.
    expect(two.get_by_text("Download PDF")).to_be_visible()
    open_gate(featured, newest_job(featured, "three.pdf"))
    for page in pages:
        expect(page.get_by_text("Download PDF")).to_be_visible()

    shown_three, shown_two = (page.evaluate("window.shown") for page in pages)
    assert shown_three[-1] == ["Done — 3 / 3 page", 100]
    assert shown_two[-1] == ["Done — 2 / 2 page", 100]
    assert not any("/ 2 page" in text for text, _ in shown_three)
    assert not any("/ 3 page" in text for text, _ in shown_two)
    assert len({width for _, width in shown_three}) > 2  # the progress bar has moved
    assert any(text.startswith("OCR — ") for text, _ in shown_three)
    assert text_of(downloaded(two, tmp_path)).split() == ["garden", "spade"]
    for page in pages:
        page.context.close()


@pytest.fixture
def page_elsewhere(featured: Stack, other_site: OtherSite, browser: Browser) -> Iterator[Page]:
    """Opens the page on another website."""
    other_site.pages["/demo.html"] = DEMO.replace("API_URL", featured.url)
    context = browser.new_context(accept_downloads=True)
    yield demo_page(context, f"{other_site.url}/demo.html")
    context.close()


def test_the_page_works_on_an_allowed_site(page_elsewhere: Page, tmp_path: Path) -> None:
    picture = documents.encoded(documents.picture("garden"), "PNG", dpi=(150, 150))
    choose(page_elsewhere, "garden.png", picture)

    expect(page_elsewhere.get_by_text("Download PDF")).to_be_visible()
    assert text_of(downloaded(page_elsewhere, tmp_path)).split() == ["garden"]

    said: list[str] = []
    page_elsewhere.on("dialog", lambda dialog: (said.append(dialog.message), dialog.accept()))
    choose(page_elsewhere, "encrypted.pdf", documents.encrypted("user"))
    wait_until(lambda: page_elsewhere.wait_for_timeout(20) or said)
    assert said == ["Failed to upload."]


def test_the_page_shows_why_a_job_has_no_result(page_elsewhere: Page, http: httpx.Client) -> None:
    choose(page_elsewhere, "demo.pdf", documents.scan("long", title="fault: gate"))
    expect(page_elsewhere.locator("#progressText")).to_contain_text("OCR")
    job = newest(http, "demo.pdf", "running")
    http.post(f"/v1/jobs/{job['id']}/cancel")

    expect(page_elsewhere.get_by_text("No download URL provided.")).to_be_visible()
    expect(page_elsewhere.locator("#progressText")).to_contain_text("The job was cancelled.")
