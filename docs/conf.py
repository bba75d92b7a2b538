"""The Sphinx configuration of the documentation website, which `make site` builds.

The pages are plain Markdown with relative links, which also work on a code host. This file adds the
navigation. The root is the repository, because pages link to files outside `docs/`.
"""

from __future__ import annotations

from sphinx.application import Sphinx

project = "OCR Tasks"
author = "the authors of OCR Tasks"
html_title = "OCR Tasks"
language = "en"

root_doc = "docs/index"
include_patterns = ["docs/**", "bench/RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".*", "*.egg-info", "build", "data", "ocr_tasks", "secrets", "tests", "web"]

extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
# Excerpts of configuration files with … are not valid JSON or INI; they are not highlighted.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_static_path = ["site/static"]
html_extra_path = ["site/root"]
html_css_files = ["site.css"]
html_favicon = html_logo = "../web/site/static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# Summaries of search results need other pages, which a page opened as a local file cannot fetch.
html_show_search_summary = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
        "color-brand-visited": "#0b5cad",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7db8f5",
        "color-brand-content": "#7db8f5",
        "color-brand-visited": "#7db8f5",
    },
}

#: The navigation: headings, each with its pages in order, as paths from the root. A pattern matches
#: all pages of the folder that are not listed by name, so new pages are added automatically.
NAVIGATION = {
    "Start": ["docs/start"],
    "Deploy and operate": [
        "docs/how-to/operate",
        "docs/how-to/containers",
        "docs/how-to/systemd",
        "docs/how-to/kubernetes",
        "docs/how-to/scale",
        "docs/how-to/storage",
        "docs/how-to/proxy",
        "docs/how-to/access",
        "docs/how-to/languages",
        "docs/how-to/tuning",
        "docs/how-to/monitoring",
    ],
    "Use": ["docs/how-to/*"],
    "Migrate": ["docs/how-to/migrate/*"],
    "Reference": ["docs/reference/*"],
    "Background": [
        "docs/explanation/architecture",
        "docs/explanation/reliability",
        "docs/explanation/*",
        "docs/decisions",
    ],
    "Project": ["bench/RESULTS", "CHANGELOG", "CONTRIBUTING", "SECURITY"],
}


def _pages(app: Sphinx, entries: list[str]) -> list[str]:
    """Returns the pages that match these entries of the navigation."""
    named = {entry for others in NAVIGATION.values() for entry in others}
    there = sorted(app.env.found_docs - named)
    found = []
    for entry in entries:
        folder, _, last = entry.rpartition("/")
        found += [p for p in there if p.rpartition("/")[0] == folder] if last == "*" else [entry]
    return found


def _add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    if page == root_doc:
        for heading, entries in NAVIGATION.items():
            pages = "".join(f"/{name}\n" for name in _pages(app, entries))
            source[0] += f"\n```{{toctree}}\n:caption: {heading}\n:hidden:\n\n{pages}```\n"


def setup(app: Sphinx) -> None:
    """Registers the navigation. Called by Sphinx."""
    app.connect("source-read", _add_navigation)
