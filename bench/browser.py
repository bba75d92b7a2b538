"""OCR in a browser, compared with Tesseract on the same machine.

    python -m bench.browser        (needs `make swarm-assets`)

Two devices of the swarm process the same pages, one page at a time: Chromium with the page /swarm,
and `ocr-tasks swarm join`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.report import publish, table
from bench.service import document
from tests.conftest import Stack, running_stack, wait_until

PAGES, ROUNDS = 12, 3


def load(stack: Stack, folder: Path, language: str) -> None:
    """Adds the pages to the queue again."""
    for action in (["purge", "--all"], ["load", str(folder), "--again", "--languages", language]):
        command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", *action]
        subprocess.run(command, env=stack.environment, check=True, capture_output=True)


def rate(stack: Stack) -> float:
    """Returns the pages per minute, measured from the first finished page to the last."""
    with stack.client() as http:

        def done() -> int:
            return int(http.get("/v1/swarm").json()["done"])

        wait_until(lambda: done() >= 1, 120)
        first, started = done(), time.monotonic()
        wait_until(lambda: done() >= PAGES, 300)
    return 60 * (PAGES - first) / (time.monotonic() - started)


def by_browser(stack: Stack, page: Page) -> float:
    page.get_by_role("button", name="Join").click()
    pages_per_minute = rate(stack)
    page.get_by_role("button", name="Leave").click()
    return pages_per_minute


def by_client(stack: Stack) -> float:
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "join", stack.url, "--jobs", "1"]
    with subprocess.Popen(
        [*command, "--until-empty"], stderr=subprocess.DEVNULL, env=os.environ
    ) as joined:
        pages_per_minute = rate(stack)
        joined.wait(60)
    return pages_per_minute


def main() -> None:
    source, language = document()
    browsers, clients = [], []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name) / "pages"
        folder.mkdir()
        rasterize = ["pdftoppm", "-r", "200", "-png", "-gray", "-l", "3", source, folder / "page"]
        subprocess.run(rasterize, check=True)
        for path in list(folder.iterdir()):
            for copy in range(PAGES // 3 - 1):
                path.with_name(f"{path.stem}-{copy}.png").hardlink_to(path)
        settings = {"OCR_WEB_PROCESSES": "2", "OCR_WORKER_PROCESSES": "1"}
        settings |= {"OCR_SWARM_CHECK_SHARE": "0"}
        with (
            running_stack(Path(name), **settings) as stack,
            playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            ) as browser,
        ):
            page = browser.new_page()
            page.goto(f"{stack.url}/swarm")
            page.get_by_label("Pages at once").select_option("1")
            for _ in range(ROUNDS):
                load(stack, folder, language)
                browsers.append(by_browser(stack, page))
                load(stack, folder, language)
                clients.append(by_client(stack))
    browser_rate, client_rate = statistics.median(browsers), statistics.median(clients)
    publish(
        "browser",
        "OCR in a browser",
        f"{PAGES} pages of {source.name} at 200 dpi in grayscale, one at a time; medians of "
        f"{ROUNDS} alternating rounds. Measured from the first finished page to the last.",
        table(
            ["", "pages per minute", "ratio"],
            [
                ["Chromium, `/swarm`", f"{browser_rate:.0f}", f"{browser_rate / client_rate:.2f}"],
                ["`ocr-tasks swarm join`", f"{client_rate:.0f}", "1"],
            ],
        ),
    )


if __name__ == "__main__":
    main()
