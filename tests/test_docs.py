"""The documentation matches the code."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from ocr_tasks import errors, extensions
from scripts import reference
from tests import documents, examples
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, submit, wait_for_end
from tests.examples import PAGES, ROOT, Example

HERE = "tests/test_docs.py"
CHECKED = [
    example
    for page in PAGES
    for example in examples.of_page(page)
    if example.language in ("sh", "bash", "python")
]


@pytest.mark.usefixtures("service")  # the values of /metrics come from Redis
@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_matches_the_code(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert (reference.FOLDER / name).read_text() == reference.page(name), "run `make docs`"


def test_every_error_code_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)`", (reference.FOLDER / "errors.md").read_text(), re.M))

    assert documented == set(errors.by_code())


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"`(OCR_\w+)`", (reference.FOLDER / "settings.md").read_text()))

    groups = extensions.settings_groups()
    assert {f"OCR_{name.upper()}" for group in groups for name in group.model_fields} == documented


def test_settings_are_accessed_in_one_module() -> None:
    for path in [*ROOT.glob("ocr_tasks/**/*.py"), *ROOT.glob("web/**/*.py")]:
        # Settings of clients are loaded without modules of the server.
        if path.name in ("settings.py", "servers.py") or path.parent.name == "client":
            continue
        assert not re.search(r"environ\b[^\n]*OCR_", path.read_text()), path


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_links_have_targets(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("example", CHECKED, ids=lambda example: example.id)
def test_each_example_is_run_or_has_a_reason_why_not(example: Example) -> None:
    for name in re.findall(r"tests/\w[\w/.]*\w", example.comment):
        assert (ROOT / name).exists(), name
    if example.runner:
        test = (ROOT / example.runner).read_text()
        assert example.page.name in test, f"{example.runner} does not know {example.page.name}"
    else:
        assert re.fullmatch(r"not run: \S.*", example.comment), (
            f"write <!-- run by tests/test_docs.py -->, or <!-- not run: why --> before "
            f"{example.id}, and name the page in the test"
        )


@pytest.mark.parametrize("example", CHECKED, ids=lambda example: example.id)
def test_each_example_can_be_parsed(example: Example) -> None:
    if example.language == "python":
        ast.parse(example.text)
    else:
        ran = subprocess.run(["bash", "-n"], input=example.text, capture_output=True, text=True)
        assert ran.stderr == ""


#: The pages that are run on the shared stack, and words that their output must contain.
RUN = {
    "README.md": ["event: job", "garden"],
    "docs/start.md": ["scan-ocr.pdf", "event: job", "succeeded", "garden"],
    "docs/how-to/access.md": ["Anna's laptop", "submit"],
    "docs/how-to/scale.md": ['ocr_workers{kind="documents"} 1', '"worker":'],
    "docs/how-to/client.md": ["out/scan.pdf", "succeeded: 100 %", "photo.png: ocr", "window"],
    "docs/how-to/large-files.md": ['"name":"scan.pdf"', "Job "],
    "docs/how-to/tuning.md": ["ocr_worker_processes_wanted"],
    "docs/how-to/migrate/ocrmypdf.md": ["done/scan.pdf"],
}


@pytest.mark.acceptance
@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name: str, stack: Stack, tmp_path: Path) -> None:
    with stack.client() as http:  # docs/how-to/scale.md looks at the newest job
        picture = documents.encoded(documents.picture("garden"), "PNG")
        wait_for_end(http, submit(http, ("page.png", picture)).json())

    said = examples.run_page(ROOT / name, HERE, stack, tmp_path)

    for words in RUN[name]:
        assert words in said
    for made in [*tmp_path.glob("searchable.pdf"), *tmp_path.glob("done/*.pdf")]:
        assert "garden" in text_of(made.read_bytes())


@pytest.mark.acceptance
def test_the_examples_of_the_swarm_run(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    documents.picture("garden").save(tmp_path / "scans" / "a.png")
    how_to = ROOT / "docs" / "how-to"

    examples.run_page(how_to / "migrate" / "docr.md", HERE, stack, tmp_path)
    examples.run_page(how_to / "swarm.md", HERE, stack, tmp_path)

    assert "garden" in (tmp_path / "transcripts" / "a.txt").read_text()


def test_every_page_with_tested_examples_is_in_the_list() -> None:
    named = {example.page for example in CHECKED if example.runner == HERE}
    swarm = {ROOT / "docs/how-to/swarm.md", ROOT / "docs/how-to/migrate/docr.md"}

    assert named == swarm | {ROOT / name for name in RUN}
