"""The rules of the house that a linter does not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ocr_tasks import errors
from web.problems import STATUS

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("ocr_tasks/**/*.py"), *ROOT.glob("web/**/*.py")])

MOST_LINES = 350
MOST_LINES_OF_A_FUNCTION = 60

#: A list of one-liners, and a list of paragraphs: reading them in one sitting is no effort.
LISTS = {"errors.py", "settings.py"}


def test_the_web_side_loads_no_parser_of_documents() -> None:
    program = (
        "import sys, web.app; web.app.create_app()\n"
        "print([n for n in ('ocrmypdf', 'pikepdf', 'PIL', 'pypdfium2', 'tesserocr') "
        "if n in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_can_be_read_in_one_sitting(path: Path) -> None:
    source = path.read_text()
    if path.name not in LISTS:
        assert len(source.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


def test_packages_start_empty() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and path.parent.name != "plugin":
            assert path.read_text() == "", path


def test_no_junk_drawers() -> None:
    assert not {"utils.py", "helpers.py", "common.py", "base.py"} & {path.name for path in MODULES}


def test_every_error_is_answered_or_stored() -> None:
    """What can reach a client as an answer has a status; what ends a job is a JobError."""
    for cls in errors.by_code().values():
        assert (cls in STATUS) != issubclass(cls, errors.JobError), cls


def test_every_error_says_what_to_do() -> None:
    for code, cls in errors.by_code().items():
        assert cls.title, code
        assert cls.advice.endswith("."), code
        assert not cls.title.endswith("."), code
