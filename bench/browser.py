"""A browser as a device of the swarm, against the same machine's own Tesseract.

    python -m bench.browser        (needs `make swarm-assets`)

Each reads the same pages one at a time: Chromium with the page /swarm, and `ocr-tasks swarm join`.
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
    """Has the pages wait anew."""
    for action in (["purge", "--all"], ["load", str(folder), "--again", "--languages", language]):
        command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", *action]
        subprocess.run(command, env=stack.environment, check=True, capture_output=True)


def rate(stack: Stack) -> float:
    """Pages a minute, from the first one that is done to the last."""
    with stack.client() as http:

        def done() -> int:
            return int(http.get("/v1/swarm").json()["done"])

        wait_until(lambda: done() >= 1, 120)
        first, began = done(), time.monotonic()
        wait_until(lambda: done() >= PAGES, 300)
    return 60 * (PAGES - first) / (time.monotonic() - began)


def by_browser(stack: Stack, page: Page) -> float:
    page.get_by_role("button", name="Join").click()
    found = rate(stack)
    page.get_by_role("button", name="Leave").click()
    return found


def by_client(stack: Stack) -> float:
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "join", stack.url, "--jobs", "1"]
    with subprocess.Popen(
        [*command, "--until-empty"], stderr=subprocess.DEVNULL, env=os.environ
    ) as joined:
        found = rate(stack)
        joined.wait(60)
    return found


def main() -> None:
    source, language = document()
    browsers, clients = [], []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name) / "pages"
        folder.mkdir()
        draw = ["pdftoppm", "-r", "200", "-png", "-gray", "-l", "3", source, folder / "page"]
        subprocess.run(draw, check=True)
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
    found = statistics.median(browsers), statistics.median(clients)
    publish(
        "browser",
        "A browser as a device",
        f"{PAGES} pages of {source.name} at 200 dpi in grey, one at a time, {ROUNDS} rounds each "
        "in turn; from the first page to the last.",
        table(
            ["", "pages a minute", "of native"],
            [
                ["Chromium, `/swarm`", f"{found[0]:.0f}", f"{found[0] / found[1]:.2f}"],
                ["`ocr-tasks swarm join`", f"{found[1]:.0f}", "1"],
            ],
        ),
    )


if __name__ == "__main__":
    main()
