"""How `make site` makes a static site of the documentation, with Sphinx.

The pages are plain Markdown with links between files, as a code host shows them; what only the site
needs, the navigation, is here. The root is the repository, so that a link to a page outside
`docs/` leads somewhere.
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
# Parts of configuration files with … in them are no JSON or INI; they are shown as they are.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_static_path = ["site/static"]
html_extra_path = ["site/root"]
html_css_files = ["site.css"]
html_favicon = html_logo = "../web/site/static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# A page that was opened as a file may not fetch others, of which summaries would be made.
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

#: The navigation: a heading, and its pages in order, as addresses from the root. A pattern stands
#: for all pages that are named nowhere, so that a new one is there without a line here.
NAVIGATION = {
    "Start": ["docs/start"],
    "How to run it": [
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
    "How to use it": ["docs/how-to/*"],
    "Coming from elsewhere": ["docs/how-to/migrate/*"],
    "Reference": ["docs/reference/*"],
    "Explanation": [
        "docs/explanation/architecture",
        "docs/explanation/reliability",
        "docs/explanation/*",
        "docs/decisions",
    ],
    "Project": ["bench/RESULTS", "CHANGELOG", "CONTRIBUTING", "SECURITY"],
}


def _pages(app: Sphinx, entries: list[str]) -> list[str]:
    """The pages that these entries of the navigation stand for."""
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
    """Sphinx calls this."""
    app.connect("source-read", _add_navigation)
