"""Rules of the code layout that a linter does not check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ocr_tasks import errors
from web.http.problems import statuses

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("ocr_tasks/**/*.py"), *ROOT.glob("web/**/*.py")])

MOST_LINES = 500
MOST_LINES_OF_A_FUNCTION = 60

#: What is missing if only the client is installed.
SERVER = {
    name.split("[")[0].split(">")[0].replace("-", "_")
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["server"]
} - {"setuptools"} | {"PIL", "pydantic_core", "kombu"}

#: A list of one-liners, and a list of paragraphs, which are easy to read in spite of their length.
LISTS = {"errors.py", "settings.py"}


def test_the_web_side_imports_no_document_parser() -> None:
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
def test_modules_and_functions_are_short(path: Path) -> None:
    source = path.read_text()
    if path.name not in LISTS:
        assert len(source.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


def test_packages_start_empty() -> None:
    for path in MODULES:
        # OCRmyPDF expects its hooks there; users import the client under one name.
        if path.name == "__init__.py" and path.parent.name not in ("plugin", "client"):
            assert path.read_text() == "", path


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["", "submit", "watch", "ocr", "ocrd"])
def test_clients_import_nothing_of_the_server(command: str) -> None:
    program = (
        "import sys, ocr_tasks.client\n"
        f"command = {command!r}\n"
        "if command:\n"
        "    from ocr_tasks import cli\n"
        "    try: cli.main([command, '--help'])\n"
        "    except SystemExit: pass\n"
        f"print('loaded', sorted({SERVER!r} & {{n.partition('.')[0] for n in sys.modules}}))\n"
        "print('ours', sorted(n for n in sys.modules if n.startswith('ocr_tasks.')))\n"
    )
    said = run_python(program)
    assert "loaded []" in said.stdout, said.stdout + said.stderr
    if not command:
        ours = said.stdout.split("ours ")[1]
        assert set(re.findall(r"ocr_tasks\.(\w+)", ours)) == {"client"}


def test_a_server_command_without_the_server_reports_what_to_install() -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({SERVER!r}))\n"
        "from ocr_tasks import cli\n"
        "sys.exit(cli.main(['worker']))"
    )
    said = run_python(program)
    assert said.returncode == 2
    assert "pip install 'ocr-tasks[server]'" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_no_module_has_a_generic_name() -> None:
    assert not {"utils.py", "helpers.py", "common.py", "base.py"} & {path.name for path in MODULES}


def test_every_error_has_a_status_or_is_a_job_error() -> None:
    """Each class either has an HTTP status, for responses, or is a JobError, which ends a job."""
    for cls in errors.by_code().values():
        assert (cls in statuses()) != issubclass(cls, errors.JobError), cls


def test_every_error_has_advice() -> None:
    for code, cls in errors.by_code().items():
        assert cls.title, code
        assert cls.advice.endswith("."), code
        assert not cls.title.endswith("."), code
