"""The web page in Chromium: what it weighs, and when something is to be seen.

    python -m bench.page

Each visit is one of a browser that has been nowhere before; the list has twenty documents. By the
browser's own entries of performance; the bytes are those of HTML, styles, scripts and icons.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from bench.report import publish, table
from tests import documents
from tests.conftest import Stack, running_stack, submit, wait_for_end

VISITS, DOCUMENTS = 10, 20

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def visit(browser: Browser, stack: Stack) -> tuple[float, float, int]:
    """Milliseconds to the first paint and to the list of documents, and bytes."""
    context = browser.new_context(locale="de")
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    page.goto(stack.url)
    listed: float = _row(page).evaluate("() => performance.now()")
    page.wait_for_load_state("networkidle")
    painted: float = page.evaluate(_PAINT)
    context.close()
    return painted, listed, sum(size for url, size in sizes.items() if "/v1/" not in url)


def read(browser: Browser, stack: Stack) -> float:
    """Milliseconds from the click on a document to its words over the image."""
    context = browser.new_context(locale="de")
    page = context.new_page()
    page.goto(stack.url)
    _row(page).wait_for()
    began: float = page.evaluate("performance.now()")
    page.get_by_role("button", name="Ansehen: 0.pdf").click()
    page.locator("#page-words span").first.wait_for(state="attached")
    seen: float = page.evaluate("performance.now()")
    context.close()
    return seen - began


def _row(page: Page) -> Locator:
    row = page.locator("#jobs li").first
    row.wait_for()
    return row


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        running_stack(Path(name)) as stack,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        ) as browser,
    ):
        with stack.client() as http:
            for number in range(DOCUMENTS):
                wait_for_end(http, submit(http, (f"{number}.pdf", documents.scan("word"))).json())
        visit(browser, stack)  # the browser's own start
        painted, listed, sizes = zip(*(visit(browser, stack) for _ in range(VISITS)), strict=True)
        opened = [read(browser, stack) for _ in range(VISITS)]
    publish(
        "page",
        "The web page",
        f"A first visit, in German, with {DOCUMENTS} documents in the list, {VISITS} times; median "
        f"and worst. {max(sizes) / 1000:.0f} kB of HTML, styles, scripts and icons, uncompressed.",
        table(
            ["", "ms", "worst"],
            [
                [what, f"{statistics.median(times):.0f}", f"{max(times):.0f}"]
                for what, times in (
                    ("first contentful paint", painted),
                    ("the list is there", listed),
                    ("from a click to the words over a page's image", opened),
                )
            ],
        ),
    )


if __name__ == "__main__":
    main()
