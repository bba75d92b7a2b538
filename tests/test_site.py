"""The website that `make site` builds from the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What a browser loads automatically, in HTML and in CSS.
_LOADED = [
    re.compile(r"<(?:script|img|iframe|source|audio|video|embed)\b[^>]*?\bsrc=[\"']([^\"']+)"),
    re.compile(
        r"<link\b(?![^>]*rel=[\"']?(?:canonical|author|license))[^>]*?\bhref=[\"']([^\"']+)"
    ),
    re.compile(r"url\(\s*[\"']?([^\"')]+)"),
    re.compile(r"@import\s+[\"']([^\"']+)"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the website like `make site`, with warnings of Sphinx as errors."""
    folder = tmp_path_factory.mktemp("site")
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(
        r"^\t\.venv/bin/sphinx-build (.*) build/doctrees \. build/site$", makefile, re.M
    )
    assert found, "the Makefile makes the site otherwise"
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", *found[1].split(), folder / "trees", ".", folder / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "site"


def test_every_page_exists_and_is_in_the_navigation(site: Path) -> None:
    start = (site / "docs" / "index.html").read_text()
    for page in [*ROOT.glob("docs/**/*.md"), ROOT / "bench" / "RESULTS.md"]:
        name = page.relative_to(ROOT).with_suffix(".html")
        assert (site / name).exists()
        link = name.relative_to("docs") if name.is_relative_to("docs") else Path("..", name)
        assert f'href="{link}"' in start or name.name == "index.html", f"{name} is in no list"


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert len(files) > 40

    for path in files:
        text = path.read_text()
        for pattern in _LOADED:
            for address in pattern.findall(text):
                assert not re.match(r"(\w+:)?//", address), f"{path}: {address}"


def test_it_can_be_searched_without_a_server(site: Path) -> None:
    """A page that is opened as a file may load scripts, but cannot fetch anything."""
    index = (site / "searchindex.js").read_text()

    assert index.startswith("Search.setIndex(")
    assert '"docs/how-to/webhooks"' in index
