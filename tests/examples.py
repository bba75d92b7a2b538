"""The examples of the documentation: the fenced code blocks of its pages, and how they are run.

The line before a block of shell or Python says how it is tested, in a comment that is not
displayed: `<!-- run by tests/… -->`, or `<!-- not run: why -->`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import documents
from tests.conftest import DATA, Stack

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]

_BLOCK = re.compile(r"^( *)(?:<!-- ([^\n]*?) -->\n *)?```(\w+)\n(.*?)^ *```$", re.S | re.M)


@dataclass(frozen=True)
class Example:
    """A code block of a page: its language, its content, and its comment."""

    page: Path
    line: int
    language: str
    text: str
    comment: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runner(self) -> str:
        """Returns the file of the test that runs it; empty if there is none."""
        found = re.fullmatch(r"run by (\S+)", self.comment)
        return found[1] if found else ""

    def of(self, stack: Stack) -> str:
        """Returns the content, with a stack in place of the server that it names."""
        return self.text.replace("http://127.0.0.1:8000", stack.url)


def of_page(page: Path) -> Iterator[Example]:
    """Returns the blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        _, comment, language, body = found.groups()
        line = text.count("\n", 0, found.start(3)) + 1
        yield Example(page, line, language, textwrap.dedent(body), comment or "")


def run_page(page: Path, runner: str, stack: Stack, folder: Path) -> str:
    """Runs the blocks of a page that belong to this test, in a folder; returns their output.

    All shell blocks are one script, as if a user typed them one after the other. The folder
    contains the files that pages mention: `scan.pdf`, `photo.png` and `.venv`.
    """
    mine = [example for example in of_page(page) if example.runner == runner]
    assert mine, f"{page} has nothing for {runner}"
    environment = stack.environment | {"OCR_URL": stack.url}
    programs = Path(sys.executable).parent
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(programs.parent)
        shutil.copy(DATA / "huckleberry-finn-p22.pdf", folder / "scan.pdf")
        documents.picture("window").save(folder / "photo.png", dpi=(150, 150))
    shell = "\n".join(example.of(stack) for example in mine if example.language == "sh")
    commands = [["bash", "-euo", "pipefail", "-c", shell]] if shell else []
    commands += [["python", "-c", one.of(stack)] for one in mine if one.language == "python"]
    said = ""
    for command in commands:
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
        said += ran.stdout
    return said
