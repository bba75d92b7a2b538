"""The documentation tells the truth."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ocr_tasks import errors
from ocr_tasks.settings import Settings
from scripts import reference
from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import DATA, Stack, wait_for_end

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
        if path.name in ("settings.py", "cli.py"):
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
def test_the_examples_of_the_swarm_run(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    documents.picture("garden").save(tmp_path / "scans" / "a.png")
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "load", str(tmp_path / "scans")]
    command += ["--transcripts", str(tmp_path / "transcripts")]
    subprocess.run(command, env=stack.environment, check=True)

    run_example(ROOT / "docs" / "how-to" / "swarm.md", stack, tmp_path)

    assert "garden" in (tmp_path / "transcripts" / "a.txt").read_text()


@pytest.mark.acceptance
def test_the_examples_of_large_files_run(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "large-files.md"
    (tmp_path / "scan.pdf").write_bytes(documents.scan("garden"))
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    command = [sys.executable, "-c", program.replace("http://127.0.0.1:8000", stack.url)]

    sent = json.loads(run_example(page, stack, tmp_path))
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    for job_id in (sent["id"], ran.stdout.strip()):
        job = wait_for_end(http, {"id": job_id})
        assert (job["state"], job["input"]["name"]) == ("succeeded", "scan.pdf")


@pytest.mark.acceptance
def test_the_examples_of_the_readme_run(stack: Stack, tmp_path: Path) -> None:
    shutil.copy(DATA / "huckleberry-finn-p22.pdf", tmp_path / "scan.pdf")

    said = run_example(ROOT / "README.md", stack, tmp_path)

    assert "event: job" in said
    assert "garden" in said
    assert "garden" in text_of((tmp_path / "searchable.pdf").read_bytes())
