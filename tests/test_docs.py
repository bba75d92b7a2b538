"""The documentation tells the truth."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_tasks import errors
from ocr_tasks.settings import Settings
from scripts import reference
from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import DATA, Stack

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (reference.FOLDER / name).read_text() == reference.page(name), "run `make docs`"


def test_every_error_code_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)`", (reference.FOLDER / "errors.md").read_text(), re.M))

    assert documented == set(errors.by_code())


def test_every_setting_is_documented() -> None:
    documented = set(re.findall(r"`(OCR_\w+)`", (reference.FOLDER / "settings.md").read_text()))

    assert {f"OCR_{name.upper()}" for name in Settings.model_fields} <= documented


def test_settings_are_read_in_one_place() -> None:
    for path in [*ROOT.glob("ocr_tasks/**/*.py"), *ROOT.glob("web/**/*.py")]:
        # Those of clients are read where nothing of the server is loaded.
        if path.name in ("settings.py", "servers.py") or path.parent.name == "client":
            continue
        assert not re.search(r"environ[^\n]*OCR_", path.read_text()), path


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def run_example(page: Path, stack: Stack, folder: Path) -> str:
    """Runs the example of a page in a folder, and gives what it says."""
    (example,) = re.findall(r"<!-- run by .*? -->\n```sh\n(.*?)```", page.read_text(), re.S)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.replace("http://127.0.0.1:8000", stack.url)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ran.stdout


@pytest.mark.acceptance
def test_the_examples_of_the_client_run(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(documents.scan("garden"))
    documents.picture("window").save(tmp_path / "photo.png", dpi=(150, 150))
    page = (ROOT / "docs" / "how-to" / "client.md").read_text()
    examples = re.findall(r"<!-- run by .*? -->\n```python\n(.*?)```", page, re.S)
    said = ""
    for example in examples:
        ran = subprocess.run(
            [sys.executable, "-c", example],
            env={**stack.environment, "OCR_URL": stack.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        said += ran.stdout

    assert len(examples) == 3
    assert "succeeded: 100 %" in said
    assert "window" in said
    assert "cannot be reached" not in said
    assert "garden" in text_of((tmp_path / "searchable.pdf").read_bytes())


@pytest.mark.acceptance
def test_the_examples_of_the_swarm_run(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    documents.picture("garden").save(tmp_path / "scans" / "a.png")
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "load", str(tmp_path / "scans")]
    command += ["--transcripts", str(tmp_path / "transcripts")]
    subprocess.run(command, env=stack.environment, check=True)

    run_example(ROOT / "docs" / "how-to" / "swarm.md", stack, tmp_path)

    assert "garden" in (tmp_path / "transcripts" / "a.txt").read_text()


@pytest.mark.acceptance
def test_the_examples_of_the_readme_run(stack: Stack, tmp_path: Path) -> None:
    shutil.copy(DATA / "huckleberry-finn-p22.pdf", tmp_path / "scan.pdf")

    said = run_example(ROOT / "README.md", stack, tmp_path)

    assert "event: job" in said
    assert "garden" in said
    assert "garden" in text_of((tmp_path / "searchable.pdf").read_bytes())
