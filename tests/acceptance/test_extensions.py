"""The core works without any extension: its folders and the line that registers it are removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocr_tasks import extensions as registered
from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, free_port, submit, wait_for_end
from web import extensions as registered_in_web

ROOT = Path(__file__).parents[2]
EXTENSIONS = sorted({*registered.NAMES, *registered_in_web.NAMES})

#: Imports all modules; `__main__` guards keep programs from starting.
IMPORT_ALL = """
import importlib, pkgutil, ocr_tasks, web
for package in (ocr_tasks, web):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
"""


@pytest.fixture(params=EXTENSIONS)
def without(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Returns a copy of the code without one extension."""
    name: str = request.param
    for package in ("ocr_tasks", "web"):
        ignore = shutil.ignore_patterns("__pycache__", "vendor")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
        shutil.rmtree(tmp_path / package / name, ignore_errors=True)
        registry = tmp_path / package / "extensions.py"
        registry.write_text(registry.read_text().replace(f'    "{name}",\n', ""))
    return tmp_path


def test_the_core_names_no_extension(without: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=without,
        env={**os.environ, "PYTHONPATH": str(without)},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr


#: Tests of an extension, in addition to the folder of its name.
TESTS_OF = {"dialects": ["web/dialects"], "ocrd": [], "swarm": []}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tests_of_the_core_pass_without_an_extension(without: Path, request: Any) -> None:
    name = request.node.callspec.params["without"]
    listed = subprocess.check_output(["git", "ls-files", "tests", "*.*", ".importlinter"], cwd=ROOT)
    for file in listed.decode().splitlines():
        if (ROOT / file).is_file() and not file.startswith(("ocr_tasks/", "web/")):
            (without / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, without / file)
    for folder in (name, *TESTS_OF[name]):
        shutil.rmtree(without / "tests" / folder, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not acceptance and not slow"]

    # A language's texts are in one file, which has those of all extensions.
    unused = "tests/web/site/test_texts.py::test_each_text_is_used"

    ran = subprocess.run(
        [
            *command,
            "-p",
            "no:cacheprovider",
            f"--deselect={unused}",
            "tests/ocr_tasks",
            "tests/web",
        ],
        cwd=without,
        env={**os.environ, "PYTHONPATH": str(without)},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout[-20000:]


def test_a_document_is_processed_without_an_extension(without: Path) -> None:
    settings = {"OCR_WEB_PROCESSES": "1", "OCR_WORKER_PROCESSES": "1", "OCR_PROCESSORS": ""}
    stack = Stack(without / "data", free_port(), without / "log", settings)
    stack.code = without
    try:
        stack.start()
        with stack.client() as http:
            job = submit(
                http, ("page.png", documents.encoded(documents.picture("garden"), "PNG"))
            ).json()
            job = wait_for_end(http, job)
            assert job["state"] == "succeeded", job
            assert "garden" in text_of(http.get(f"/v1/jobs/{job['id']}/pdf").content)
            assert http.get("/metrics").status_code == http.get("/openapi.json").status_code == 200
    finally:
        if stack.process:
            stack.stop()
