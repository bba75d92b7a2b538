"""`scripts/setup` on machines where it cannot install anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml

SETUP = Path(__file__).parent.parent / "scripts" / "setup"


def run(tmp_path: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """Runs it with these programs only."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", *programs):
        found = shutil.which(name)
        assert found
        (folder / Path(name).name).symlink_to(found)
    return subprocess.run(
        [folder / "bash", SETUP],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_without_apt_is_told_what_to_install(tmp_path: Path) -> None:
    told = run(tmp_path, "python3")

    assert told.returncode == 1
    for package in ("tesseract-ocr", "ghostscript", "redis-server", "unpaper", "pngquant"):
        assert package in told.stderr
    assert "no apt-get" in told.stderr


def test_who_is_not_root_and_has_no_sudo_is_told_what_to_ask_for(tmp_path: Path) -> None:
    for name, words in (("apt-get", "exit 1"), ("id", "echo 1000")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{words}\n")
        program.chmod(0o755)
    told = run(tmp_path, "python3", str(tmp_path / "apt-get"), str(tmp_path / "id"))

    assert told.returncode == 1
    assert "neither root nor sudo" in told.stderr
    assert "apt-get install tesseract-ocr" in told.stderr


def test_python_itself_is_named_where_it_is_missing(tmp_path: Path) -> None:
    assert "python3 python3-venv" in run(tmp_path).stderr


def test_an_option_that_there_is_not_changes_nothing() -> None:
    told = subprocess.run([SETUP, "--ocr"], capture_output=True, text=True, check=False)

    assert told.returncode == 2
    assert told.stderr == "usage: scripts/setup [--dev] [--ocrd]\n"


def test_the_hooks_of_commits_run_the_tools_that_lint_runs() -> None:
    root = SETUP.parent.parent
    (repository,) = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    (lint,) = re.findall(r"^lint:\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.M)

    assert repository["repo"] == "local"  # nothing is fetched from elsewhere
    entries = " ".join(hook["entry"] for hook in repository["hooks"])
    tools = re.findall(r"^\t(\.venv/bin/[\w-]+(?: (?:format|check))?)", lint, re.M)
    assert len(tools) == 4
    for tool in tools:
        assert tool in entries
