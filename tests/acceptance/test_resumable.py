"""Resumable uploads: a real tus client, a server that is killed, Chromium."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pikepdf
import pytest
from playwright.sync_api import Browser, Page, Request, expect
from tusclient.client import TusClient

from tests import documents
from tests.acceptance.conftest import PATIENCE, kill_web, row
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("featured")]

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def stack(featured: Stack) -> Stack:
    return featured


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def heavy(text: str, size: int) -> bytes:
    """Returns a page that is quickly processed, in a file of at least this many bytes."""
    with pikepdf.open(io.BytesIO(documents.scan(text))) as pdf:
        pdf.Root.Ballast = pdf.make_stream(os.urandom(size))
        return documents.saved(pdf)


def job_of(http: httpx.Client, address: str, **options: str) -> httpx.Response:
    parts = [("upload", (None, address))]
    return http.post("/v1/jobs", files=[*parts, *((k, (None, v)) for k, v in options.items())])


def content(stack: Stack, address: str) -> Path:
    return stack.data_dir / "resumable" / address.rpartition("/")[2] / "content"


def test_a_tus_client_resumes_after_the_server_was_killed(stack: Stack, http: httpx.Client) -> None:
    whole = heavy("resumed", 3_000_000)
    client = TusClient(f"{stack.url}/v1/uploads")
    first = client.uploader(
        file_stream=io.BytesIO(whole),
        chunk_size=200_000,
        metadata={"filename": "Größe.pdf"},
        upload_checksum=True,
    )
    first.upload(stop_at=600_000)
    address = str(first.url)

    # Another client sends the rest in one chunk, and the server is killed in the middle of it.
    with socket.create_connection(("127.0.0.1", stack.port)) as line:
        head = (
            f"PATCH {address.removeprefix(stack.url)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Tus-Resumable: 1.0.0\r\nUpload-Offset: 600000\r\n"
            "Content-Type: application/offset+octet-stream\r\n"
            f"Content-Length: {len(whole) - 600_000}\r\n\r\n"
        )
        line.sendall(head.encode() + whole[600_000:1_500_000])
        wait_until(lambda: content(stack, address).stat().st_size > 1_000_000)
        kill_web(stack)
    wait_until(stack.ready)
    here = int(http.head(address, headers=TUS).headers["Upload-Offset"])
    assert 1_000_000 < here <= 1_500_000
    assert content(stack, address).read_bytes() == whole[:here]

    second = client.uploader(
        file_stream=io.BytesIO(whole), url=address, chunk_size=700_000, upload_checksum=True
    )
    assert second.offset == here
    second.upload()
    assert content(stack, address).read_bytes() == whole
    job = job_of(http, address).json()

    assert job["input"]["name"] == "Größe.pdf"
    assert job["input"]["sha256"] == hashlib.sha256(whole).hexdigest()
    assert wait_for_end(http, job)["state"] == "succeeded"
    assert "resumed" in text_of(http.get(f"/v1/jobs/{job['id']}/pdf").content)


def test_two_uploads_become_one_pdf(stack: Stack, http: httpx.Client) -> None:
    client = TusClient(f"{stack.url}/v1/uploads")
    ids = []
    for text in ("garden", "river"):
        uploader = client.uploader(file_stream=io.BytesIO(documents.scan(text)))
        uploader.upload()
        ids.append(str(uploader.url).rpartition("/")[2])

    parts = [("upload", (None, upload_id)) for upload_id in ids]
    job = wait_for_end(http, http.post("/v1/jobs", files=parts).json())

    assert job["progress"]["pages_total"] == 2
    said = http.get(f"/v1/jobs/{job['id']}/text").text
    assert said.index("garden") < said.index("river")


# The web page


class Sent:
    """Records the offsets of the chunks that a page sends."""

    def __init__(self, page: Page) -> None:
        self.offsets: list[int] = []
        page.on("request", self._see)

    def _see(self, request: Request) -> None:
        if request.method == "PATCH":
            self.offsets.append(int(request.headers["upload-offset"]))

    def check(self) -> None:
        """Checks that an upload was interrupted once, and resumed from the received bytes."""
        assert len(self.offsets) >= 2
        assert self.offsets[0] == 0
        assert self.offsets == sorted(set(self.offsets))


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """The web page, which must not log errors."""
    context = browser.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None,
    )
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    opened.goto(stack.url)
    expect(opened.get_by_label("English")).to_be_visible()
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def line(page: Page) -> Callable[[int], None]:
    """Returns a function that limits the page's upload rate in bytes per second; -1: no limit.

    The initial limit is so low that a test can act long before the upload ends.
    """
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def limit(speed: int) -> None:
        more = {"downloadThroughput": -1, "uploadThroughput": speed}
        session.send("Network.emulateNetworkConditions", {"offline": False, "latency": 0, **more})

    limit(150_000)
    return limit


def finished(page: Page, http: httpx.Client, name: str, whole: bytes) -> None:
    """Waits until the page shows a job as done; it must be the only job of that file."""
    expect(row(page, name).get_by_text("Done in")).to_be_visible()
    jobs = [job for job in http.get("/v1/jobs").json()["jobs"] if job["input"]["name"] == name]
    assert [job["input"]["sha256"] for job in jobs] == [hashlib.sha256(whole).hexdigest()]


def test_the_page_resumes_after_the_server_was_killed(
    page: Page, line: Callable[[int], None], stack: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    sent = Sent(page)
    file = tmp_path / "Bad line.pdf"
    file.write_bytes(heavy("persistent", 2_000_000))

    page.get_by_label("Choose files").set_input_files(file)
    job = row(page, file.name)
    expect(job.get_by_text(re.compile("Uploading, [2-9][0-9] %"))).to_be_visible()
    kill_web(stack)
    line(-1)

    finished(page, http, file.name, file.read_bytes())
    sent.check()


def test_the_page_resumes_an_upload_after_it_was_reloaded(
    page: Page, line: Callable[[int], None], http: httpx.Client, tmp_path: Path
) -> None:
    sent = Sent(page)
    file = tmp_path / "Again.pdf"
    file.write_bytes(heavy("again", 1_500_000))

    page.get_by_label("Choose files").set_input_files(file)
    job = row(page, file.name)
    expect(job.get_by_text(re.compile("Uploading, [2-9][0-9] %"))).to_be_visible()
    page.reload()
    line(-1)
    expect(page.get_by_label("English")).to_be_visible()
    page.get_by_label("Choose files").set_input_files(file)

    finished(page, http, file.name, file.read_bytes())
    sent.check()


@pytest.mark.usefixtures("line")
def test_a_cancelled_upload_of_the_page_leaves_nothing(
    page: Page, stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "Not now.pdf"
    file.write_bytes(heavy("not now", 1_500_000))

    page.get_by_label("Choose files").set_input_files(file)
    job = row(page, file.name)
    expect(job.get_by_text(re.compile("Uploading, [1-9][0-9] %"))).to_be_visible()
    left = {path.parent for path in (stack.data_dir / "resumable").glob("*/content")}
    job.get_by_role("button", name=re.compile("^Cancel")).click()

    expect(page.get_by_role("heading", name=file.name)).to_have_count(0)
    assert left
    wait_until(lambda: not any(folder.exists() for folder in left))
