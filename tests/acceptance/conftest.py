"""A browser, and tokens of a running stack."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

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
