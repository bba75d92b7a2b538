"""A browser, and tokens of a running stack."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.conftest import Stack

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
