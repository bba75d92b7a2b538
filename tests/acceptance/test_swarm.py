"""Distributed OCR of a document with real clients, in their own processes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pikepdf
import pytest
from playwright.sync_api import Browser, Page, Route

from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import DATA, SIX_PAGES, Stack, running_stack, submit, wait_for_end, wait_until

pytestmark = pytest.mark.acceptance

PAGE = DATA / "huckleberry-finn-p22.pdf"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker that leaves OCR to devices as long as there are any."""
    with running_stack(
        tmp_path_factory.mktemp("swarm"),
        OCR_WORKER_PROCESSES="1",
        OCR_SWARM_LEASE_SECONDS="5",
        OCR_SWARM_TAKE_SECONDS="600",
        OCR_SWARM_CHECK_SHARE="0",
    ) as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@dataclass
class Device:
    """A running `ocr-tasks swarm join`."""

    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def device(stack: Stack, name: str) -> Iterator[Device]:
    """Runs `ocr-tasks swarm join` for the duration of the block."""
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "join", stack.url, "--jobs", "1"]
    log = stack.log.with_name(f"device-{name}")
    with log.open("wb") as words:
        joined = subprocess.Popen([*command, "--name", name], stderr=words, env=os.environ)
    try:
        yield Device(joined, log)
    finally:
        joined.send_signal(signal.SIGCONT)
        joined.send_signal(signal.SIGINT)
        joined.wait(60)


def done_by(http: httpx.Client) -> dict[str, int]:
    rows = http.get("/v1/swarm/devices").json()["devices"]
    return {row["name"].rpartition("/")[2]: row["done"] for row in rows}


def open_pages(http: httpx.Client) -> dict[str, int]:
    """Returns the number of pages that each device currently has."""
    rows = http.get("/v1/swarm/devices").json()["devices"]
    return {row["name"].rpartition("/")[2]: row["open"] for row in rows}


@dataclass
class Held:
    """A browser that processes one page at a time, and waits for the first page's image."""

    page: Page
    images: list[Route] = field(default_factory=list)

    def release(self) -> None:
        """Lets the browser continue."""

        def held() -> bool:
            self.page.wait_for_timeout(50)  # meanwhile, Playwright handles events
            return bool(self.images)

        wait_until(held)
        # `unroute` ends the interception, after which a route that is held cannot be continued.
        for route in self.images:
            route.continue_()
        self.page.unroute("**/image")


@contextlib.contextmanager
def joined_page(browser: Browser, stack: Stack, name: str) -> Iterator[Held]:
    context = browser.new_context()
    page = context.new_page()
    held = Held(page)
    page.route("**/image", lambda route: held.images.append(route))
    page.goto(f"{stack.url}/swarm")
    page.get_by_label("Name of this device").fill(name)
    page.get_by_label("Pages at once").select_option("1")
    page.get_by_role("button", name="Join").click()
    try:
        yield held
    finally:
        context.close()


def document() -> tuple[str, bytes]:
    """Returns a document with a slow page, during which a device can be ended, and five others."""
    light = documents.scan("one of five", "the second", "then a third", "a fourth", "the last")
    with pikepdf.open(PAGE) as whole, pikepdf.open(io.BytesIO(light)) as rest:
        whole.pages.extend(rest.pages)
        return ("six.pdf", documents.saved(whole))


def test_clients_and_browsers_process_a_document_although_some_die(
    stack: Stack, http: httpx.Client, browser: Browser
) -> None:
    before = Counter(done_by(http))
    job = submit(http, document(), engine="swarm").json()
    # One after the other, which gives each of them a page regardless of the load.
    with device(stack, "victim") as victim:
        wait_until(lambda: open_pages(http).get("victim"), 240)
        victim.process.kill()
    with joined_page(browser, stack, "closed"):
        wait_until(lambda: open_pages(http).get("closed"))
    with joined_page(browser, stack, "stays") as stays:
        wait_until(lambda: open_pages(http).get("stays"))
        with device(stack, "leaves"):
            wait_until(lambda: done_by(http).get("leaves", 0) > before["leaves"], 240)
        stays.release()
        job = wait_for_end(http, job, 240)

    assert (job["state"], job["failed_pages"]) == ("succeeded", [])
    found = Counter(done_by(http)) - before
    assert found.total() == 6
    assert min(found["leaves"], found["stays"]) > 0
    # Each page has its text, word for word; on the first one without the drawing below it.
    sentence = "the branches wouldn’t scrape our heads."
    made = ["one of five", "the second", "then a third", "a fourth", "the last"]
    links = f"/v1/jobs/{job['id']}"
    for text in (http.get(f"{links}/text").text, text_of(http.get(f"{links}/pdf").content)):
        first, *others = [" ".join(page.split()) for page in text.rstrip("\f").split("\f")]
        assert sentence in first
        assert others == made
    assert http.get("/v1/swarm").json()["leased"] == 0


@pytest.mark.xdist_group("single")
def test_without_any_device_the_worker_processes_the_pages(single: Stack) -> None:
    with single.client() as http:
        scan = ("a.pdf", documents.scan("one", "two", "three"))
        job = wait_for_end(http, submit(http, scan, engine="swarm").json())

        assert (job["state"], job["failed_pages"]) == ("succeeded", [])
        assert "two" in http.get(f"/v1/jobs/{job['id']}/text").text


def test_a_page_that_devices_fail_is_processed_by_the_worker(
    stack: Stack, http: httpx.Client
) -> None:
    job = submit(http, ("a.pdf", documents.scan("difficult")), engine="swarm").json()
    for number in range(3):
        asked = {"device": f"blind {number}"}

        def lease(asked: dict[str, str] = asked) -> list[dict[str, str]]:
            pages: list[dict[str, str]] = http.post("/v1/swarm/leases", json=asked).json()["pages"]
            return pages

        (page,) = wait_until(lease)
        assert page["name"] == "page 1"
        http.post(page["failure"], json={"reason": "too dark"}).raise_for_status()
    job = wait_for_end(http, job)

    assert (job["state"], job["failed_pages"]) == ("succeeded", [])
    assert "difficult" in http.get(f"/v1/jobs/{job['id']}/text").text


def test_a_cancelled_job_withdraws_its_pages(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, ("a.pdf", documents.scan("one", "two")), engine="swarm").json()

    def lease() -> list[dict[str, str]]:
        pages: list[dict[str, str]] = http.post("/v1/swarm/leases", json={}).json()["pages"]
        return pages

    (page,) = wait_until(lease)
    http.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()

    def refused() -> bool:
        return http.put(page["transcript"], content=b"x").status_code == 410

    wait_until(refused)
    wait_until(lambda: http.get("/v1/swarm").json()["waiting"] == 0 or not lease())


def test_devices_and_jobs_continue_when_the_server_is_back(
    stack: Stack, http: httpx.Client
) -> None:
    with device(stack, "patient") as patient:
        wait_until(lambda: "patient" in done_by(http), 240)
        patient.process.send_signal(signal.SIGSTOP)
        scan = ("a.pdf", documents.scan("one", "two", "three"))
        job = submit(http, scan, engine="swarm").json()
        wait_until(lambda: http.get("/v1/swarm").json()["waiting"] == 3)

        stack.stop()
        patient.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "the server cannot be reached" in patient.log.read_text())
        stack.start()
        job = wait_for_end(http, job)

        assert (job["state"], job["failed_pages"]) == ("succeeded", [])
        assert done_by(http)["patient"] == 3


def test_pages_of_other_jobs_are_not_leased(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, ("a.pdf", documents.scan("private"))).json()
    handed = []
    while http.get(f"/v1/jobs/{job['id']}").json()["state"] in ("queued", "running"):
        handed += http.post("/v1/swarm/leases", json={}).json()["pages"]
        time.sleep(0.05)

    assert handed == []


def test_devices_help_if_all_workers_are_busy(stack: Stack, http: httpx.Client) -> None:
    before = http.get("/v1/swarm").json()["transcripts"]
    with device(stack, "helper"):
        wait_until(lambda: "helper" in done_by(http), 240)
        sent = submit(http, SIX_PAGES, engine="auto").json()
        job = wait_for_end(http, sent)

    assert (job["state"], job["failed_pages"]) == ("succeeded", [])
    helped = http.get("/v1/swarm").json()["transcripts"] - before
    assert 0 < helped < 6
