"""Paths that a stranger wrote: into a METS file, a ZIP file, the XML of a page."""

from __future__ import annotations

import re
from pathlib import Path

from ocr_tasks.errors import WorkspaceInvalid

#: Characters of a path, and bytes of each of its names (man 7 path_resolution has room for more).
_LONGEST, _LONGEST_NAME = 1024, 255
_DEEPEST = 32

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# One letter before a colon is a drive of Windows, and nothing here.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def fault(path: str) -> str:
    """What is wrong with a path that must stay below a folder; '' if nothing is."""
    if not path or len(path) > _LONGEST:
        return f"a path must have 1 to {_LONGEST} characters"
    if _CONTROL.search(path) or "\\" in path:
        return "a path must not have backslashes or control characters"
    if path.startswith("/"):
        return "a path must not be absolute"
    names = path.split("/")
    if ".." in names:
        return "a path must not lead out of its folder"
    if len(names) > _DEEPEST or any(len(name.encode()) > _LONGEST_NAME for name in names):
        return f"a path must have at most {_DEEPEST} names of at most {_LONGEST_NAME} bytes"
    return ""


def is_url(text: str) -> bool:
    """Whether the text begins with a scheme, as in `http:` or `file:`."""
    return _SCHEME.match(text) is not None


def is_web_address(text: str) -> bool:
    """Whether the text is an address of the kind that browsers fetch."""
    return re.match(r"https?://[^/\s]", text, re.IGNORECASE) is not None and len(text) <= 2048


def check_local(href: str, folder: Path, known: set[Path]) -> None:
    """Makes sure that a path that METS names is that of a file below a folder, without links.

    `known` are folders that need not be looked at again.
    """
    wrong = fault(href) or ("it is a URL" if is_url(href) else "")
    if wrong:
        raise WorkspaceInvalid(f"METS references {href!r:.200}: {wrong}")
    path = folder / href
    above = [row for row in path.parents if row.is_relative_to(folder) and row not in known]
    if any(row.is_symlink() or not row.is_dir() for row in above):
        raise WorkspaceInvalid(f"METS references {href!r:.200}, which does not exist")
    known.update(above)
    if path.is_symlink() or not path.is_file():
        raise WorkspaceInvalid(f"METS references {href!r:.200}, which does not exist")
