"""A browser, the stacks that several files share, and their tokens.

Starting a stack takes seconds of two cores. Files therefore share stacks, which differ in their
settings: `closed`, `featured`, or `stack`, `faulty` and `single` of `tests/conftest.py`. Files that
share a stack name it as their group (`pytest.mark.xdist_group`) and restore what they break. No
test expects that the jobs, tokens or counters of a shared stack are its own.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from bench.upload_memory import web_processes
from ocr_tasks.model import Scope
from ocr_tasks.security import tokens
from tests.commands import operating
from tests.conftest import Stack, running_stack, wait_until
from tests.dashboards import redis_with_password
from tests.receivers import SECRET

#: Without these, Chromium sends requests to its vendor.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is not installed; scripts/setup --dev installs it"
    program = Path(__file__).with_name("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Runs a stack that requires tokens, with Azure's API."""
    with running_stack(
        tmp_path_factory.mktemp("closed"),
        OCR_ACCESS="tokens",
        OCR_DIALECTS="azure",
        OCR_CALLBACK_NETWORKS="127.0.0.0/8",
        OCR_LOG_LEVEL="DEBUG",
        OCR_MAX_UPLOAD_BYTES="3000000",
        OCR_PLUGINS="tests.plugins.faults",
        OCR_WORKER_PROCESSES="2",
    ) as running:
        yield running


class OtherSite(ThreadingHTTPServer):
    """Another website, with the pages of `pages` by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.pages: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Pages(BaseHTTPRequestHandler):
    server: OtherSite

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path, "").encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="session")
def other_site() -> Iterator[OtherSite]:
    """Runs a website whose pages may use `featured`."""
    with OtherSite() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def featured(tmp_path_factory: pytest.TempPathFactory, other_site: OtherSite) -> Iterator[Stack]:
    """Runs an open stack of two worker processes with all features that are off by default.

    It has a Redis with a password, like in containers, webhooks to this machine, resumable uploads
    of large files, the other APIs, an allowed website, and faults of the engine on request.
    """
    folder = tmp_path_factory.mktemp("featured")
    with (
        redis_with_password(folder / "redis") as redis,
        running_stack(
            folder,
            **redis,
            OCR_CALLBACK_NETWORKS="127.0.0.0/8",
            OCR_CORS_ORIGINS=other_site.url,
            OCR_DIALECTS="nextcloud,demo",
            OCR_PLUGINS="tests.plugins.faults",
            OCR_RESUMABLE_BYTES="1000000",
            OCR_WEBHOOK_SECRETS=SECRET,
            OCR_WORKER_PROCESSES="2",
        ) as running,
    ):
        yield running


#: Generous timeouts in seconds, because no test is about speed.
PATIENCE = 90_000


#: The browser's properties if a test requests no others.
PLAIN: dict[str, Any] = {"accept_downloads": True, "viewport": {"width": 1100, "height": 900}}

_plain_pages: dict[Browser, Page] = {}


@contextlib.contextmanager
def visit(
    browser: Browser, stack: Stack, path: str = "/", *, fresh: bool = False, **options: Any
) -> Iterator[Page]:
    """Opens the web page like a first visit.

    The page must not request anything from other hosts, and must not log errors. `options` are
    those of the browser's context, e.g. `locale`. Without any, tests share a context, which is
    cleared after each test, because a new one takes a second of a core. `fresh` is for tests that
    leave more than cookies, storage and permissions behind, e.g. scripts, or that need an empty
    cache.
    """
    shared = not (fresh or options)
    opened = _plain_page(browser) if shared else browser.new_context(**PLAIN | options).new_page()
    errors: list[str] = []
    foreign: list[str] = []

    def see_console(said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text:
            errors.append(said.text)

    def see_request(request: Request) -> None:
        if not request.url.startswith(stack.url):
            foreign.append(request.url)

    def see_error(error: Error) -> None:
        errors.append(str(error))

    opened.on("pageerror", see_error)
    opened.on("console", see_console)
    opened.on("request", see_request)
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    opened.goto(f"{stack.url}{path}")
    try:
        yield opened
    except BaseException:
        shared = False
        raise
    finally:
        opened.remove_listener("pageerror", see_error)
        opened.remove_listener("console", see_console)
        opened.remove_listener("request", see_request)
        if shared:
            _empty(opened, stack)
        else:
            opened.context.close()
    assert errors == []
    assert foreign == []


def _plain_page(browser: Browser) -> Page:
    page = _plain_pages.get(browser)
    if page is None or page.is_closed():
        page = _plain_pages[browser] = browser.new_context(**PLAIN).new_page()
    return page


def _empty(page: Page, stack: Stack) -> None:
    """Leaves the page, and resets its context to that of a new one."""
    context = page.context
    for other in context.pages:
        if other is not page:
            other.close()
    context.set_offline(False)
    context.clear_permissions()
    try:
        page.goto("about:blank")
    except Error as error:
        if "ERR_ABORTED" not in error.message:
            raise
        # The viewer calls history.back() when it is closed, and that navigation came first.
        context.close()
        return
    context.clear_cookies()
    devtools = context.new_cdp_session(page)
    everything = {"origin": stack.url, "storageTypes": "all"}
    devtools.send("Storage.clearDataForOrigin", everything)
    devtools.detach()
    page.set_viewport_size(PLAIN["viewport"])
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")


def picture(name: str, text: str) -> dict[str, str | bytes]:
    """Returns an image with a line of text, for a file input."""
    image = Image.new("L", (1240, 500), "white")
    ImageDraw.Draw(image).text((100, 150), text, fill=0, font=ImageFont.load_default(80))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", dpi=(150, 150))
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def ask_for_fault(page: Page, title: str) -> None:
    """Makes the next document that the page sends fail as its title requests."""
    page.locator("#send [name=title]").evaluate("(field, title) => { field.value = title }", title)


def row(page: Page, name: str) -> Locator:
    """Returns the list entry of the newest document with this name."""
    heading = page.get_by_role("heading", name=name, exact=True)
    return page.locator("li.job:not(.batch)").filter(has=heading).first


def make_token(
    stack: Stack, *scopes: str, name: str = "test", days: float | None = None, **limits: int
) -> str:
    """Creates a token of a stack; limits are options of `ocr-tasks tokens create`."""
    with operating(stack):
        return tokens.create(name, map(Scope, scopes), days, limits)[1]


def revoke(stack: Stack, token: str) -> None:
    """Revokes a token of a stack."""
    with operating(stack):
        assert tokens.revoke(id_of(token))


def run_tokens(stack: Stack, *words: str) -> str:
    """Returns the standard output of `ocr-tasks tokens …`."""
    command = [sys.executable, "-m", "ocr_tasks.cli", "tokens", *words]
    ran = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout


def kill_web(stack: Stack) -> None:
    """Kills all processes of the web server at once; the supervisor starts it again."""
    assert stack.process
    workers = web_processes(stack)
    killed = [psutil.Process(workers[0].ppid()), *workers]
    for process in killed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # The port of a process that has ended is free even before its parent has waited for it.
    wait_until(lambda: all(_has_ended(process) for process in killed))


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def away(stack: Stack) -> Iterator[None]:
    """Stops the web server for the duration of the block."""
    assert stack.process
    supervisor = psutil.Process(stack.process.pid)
    supervisor.suspend()
    try:
        kill_web(stack)
        yield
    finally:
        supervisor.resume()
        wait_until(stack.ready)


def open_gate(stack: Stack, job: dict[str, Any], *pages: int) -> None:
    """Continues pages of a job that wait because its title is "fault: gate …"; by default all."""
    folder = stack.data_dir / "jobs" / job["id"][:2] / job["id"]
    for name in [f"open-{page}" for page in pages] or ["open"]:
        (folder / name).touch()


def cancel_all(http: httpx.Client) -> None:
    """Cancels the jobs that a test has left, e.g. a failed one; they may wait at a gate."""
    for state in ("running", "queued"):
        for job in http.get("/v1/jobs", params={"state": state}).json()["jobs"]:
            http.post(f"{job['links']['self']}/cancel")


def newest_job(stack: Stack, name: str) -> dict[str, Any]:
    """Waits for a job of a document with this name in an open stack; returns the newest."""
    with stack.client() as http:

        def found() -> dict[str, Any] | None:
            jobs = http.get("/v1/jobs").json()["jobs"]
            return next((job for job in jobs if job["input"]["name"] == name), None)

        return dict(wait_until(found))


def id_of(token: str) -> str:
    """Returns the public part of a token."""
    return token.split("_")[1]
