"""Load time and size of the web page in Chromium.

    python -m bench.page

Each visit has an empty cache, and the list contains twenty documents. Times are the browser's
performance entries. The size is that of HTML, styles, scripts and icons.
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
    """Returns the milliseconds until the first paint and until the list, and the size in bytes."""
    context = browser.new_context(locale="de")
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    page.goto(stack.url)
    listed: float = _row(page).evaluate("() => performance.now()")
    page.wait_for_load_state("networkidle")
    painted: float = page.evaluate(_PAINT)
    context.close()
    return painted, listed, sum(size for url, size in sizes.items() if "/v1/" not in url)


def open_document(browser: Browser, stack: Stack) -> float:
    """Returns the milliseconds from a click on a document until its words appear over the image."""
    context = browser.new_context(locale="de")
    page = context.new_page()
    page.goto(stack.url)
    _row(page).wait_for()
    clicked: float = page.evaluate("performance.now()")
    page.get_by_role("button", name="Ansehen: 0.pdf").click()
    page.locator("#page-words span").first.wait_for(state="attached")
    visible: float = page.evaluate("performance.now()")
    context.close()
    return visible - clicked


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
        visit(browser, stack)  # not counted: includes the start of the browser
        painted, listed, sizes = zip(*(visit(browser, stack) for _ in range(VISITS)), strict=True)
        opened = [open_document(browser, stack) for _ in range(VISITS)]
    publish(
        "page",
        "Web page",
        f"{VISITS} first visits, in German, with {DOCUMENTS} documents in the list. HTML, styles, "
        f"scripts and icons have {max(sizes) / 1000:.0f} kB, uncompressed.",
        table(
            ["", "median ms", "maximum ms"],
            [
                [label, f"{statistics.median(times):.0f}", f"{max(times):.0f}"]
                for label, times in (
                    ("first contentful paint", painted),
                    ("list of documents", listed),
                    ("open a document, until its words appear over the image", opened),
                )
            ],
        ),
    )


if __name__ == "__main__":
    main()
