"""Has axe (https://github.com/dequelabs/axe-core) look at a page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

#: WCAG 2.2 AA, and what axe's authors advise beyond it.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def check(page: Page, within: str | None = None) -> None:
    """Makes sure that axe finds nothing wrong with the page, or a part of it, as it is now."""
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    found = Axe().run(page, within, options).response["violations"]
    faults = [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
    assert not faults, "\n".join(faults)
