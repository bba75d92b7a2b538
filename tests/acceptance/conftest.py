"""A browser, the stacks that several files share, and their tokens.

A stack takes seconds of two cores to start, so files share one by its settings: `stack` of
`tests/conftest.py`, `closed` or `featured`. Files that share one name it as their group
(`pytest.mark.xdist_group`), and leave it as they found it: what they break they mend, and no test
counts on jobs, tokens or counters being its own.
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
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.conftest import Stack, running_stack
from tests.dashboards import redis_with_password
from tests.receivers import SECRET

#: Without these Chromium calls home, again and again.
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
    program = shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "Chromium is not installed; scripts/setup --dev installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that asks for tokens, and speaks Azure's dialect."""
    with running_stack(
        tmp_path_factory.mktemp("closed"),
        OCR_ACCESS="tokens",
        OCR_DIALECTS="azure",
        OCR_CALLBACK_NETWORKS="127.0.0.0/8",
        OCR_LOG_LEVEL="DEBUG",
        OCR_MAX_UPLOAD_BYTES="31000000",
        OCR_PLUGINS="tests.plugins.faults",
        OCR_WORKER_PROCESSES="2",
    ) as running:
        yield running


class OtherSite(ThreadingHTTPServer):
    """Another web site, with the pages of `pages` by path."""

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
        """Says nothing."""


@pytest.fixture(scope="session")
def other_site() -> Iterator[OtherSite]:
    """A site whose pages may use `featured`."""
    with OtherSite() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def featured(tmp_path_factory: pytest.TempPathFactory, other_site: OtherSite) -> Iterator[Stack]:
    """An open stack of two worker processes, with all that is off where nothing is set.

    It has a Redis with a password, as in containers, webhooks to this machine, large uploads in
    pieces, dialects, another site that may use it, and faults of the engine on demand.
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


#: Seconds are generous: nothing here is about speed.
PATIENCE = 90_000


@contextlib.contextmanager
def visit(browser: Browser, stack: Stack, path: str = "/", **options: Any) -> Iterator[Page]:
    """The web page in a browser of its own; it must ask nobody else, and have nothing to complain.

    `options` are those of the browser's context, such as `locale`.
    """
    size = {"width": 1100, "height": 900}
    context = browser.new_context(**{"accept_downloads": True, "viewport": size, **options})
    opened = context.new_page()
    errors: list[str] = []
    foreign: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None,
    )
    opened.on(
        "request",
        lambda request: None if request.url.startswith(stack.url) else foreign.append(request.url),
    )
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    opened.goto(f"{stack.url}{path}")
    try:
        yield opened
    finally:
        context.close()
    assert errors == []
    assert foreign == []


def picture(name: str, text: str) -> dict[str, str | bytes]:
    """A file with a line of text, to be chosen in a page."""
    image = Image.new("L", (1240, 500), "white")
    ImageDraw.Draw(image).text((100, 150), text, fill=0, font=ImageFont.load_default(80))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", dpi=(150, 150))
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def row(page: Page, name: str) -> Locator:
    """The newest document of this name in the list."""
    heading = page.get_by_role("heading", name=name, exact=True)
    return page.locator("li.job:not(.batch)").filter(has=heading).first


def make_token(stack: Stack, *scopes: str, name: str = "test", **more: object) -> str:
    """A token of a stack, as its operator makes one; further words are options of the command."""
    options = [f"--{option.replace('_', '-')}={value}" for option, value in more.items()]
    command = ["create", name, "--scopes", ",".join(scopes), *options]
    return run_tokens(stack, *command).strip()


def run_tokens(stack: Stack, *words: str) -> str:
    """What `ocr-tasks tokens …` says on standard output."""
    command = [sys.executable, "-m", "ocr_tasks.cli", "tokens", *words]
    ran = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout


def id_of(token: str) -> str:
    """The public part of a token."""
    return token.split("_")[1]
