"""Accessibility checks of web pages with axe (https://github.com/dequelabs/axe-core)."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

#: WCAG 2.2 AA, and the best practices of axe's authors.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def check(page: Page, within: str | None = None) -> None:
    """Checks that axe finds no violation on the page, or in a part of it, in its current state."""
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    found = Axe().run(page, within, options).response["violations"]
    faults = [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
    assert not faults, "\n".join(faults)
