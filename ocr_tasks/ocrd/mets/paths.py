"""Checks of untrusted paths in METS files, ZIP files and PAGE documents."""

from __future__ import annotations

import re
from pathlib import Path

from ocr_tasks.ocrd.errors import WorkspaceInvalid

#: Maximum characters of a path, and maximum bytes of each of its names.
_LONGEST, _LONGEST_NAME = 1024, 255
_DEEPEST = 32

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# At least two letters: a single one is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def path_error(path: str) -> str:
    """Returns why a path is not allowed below a folder, or ''."""
    if not path or len(path) > _LONGEST:
        return f"a path must have 1 to {_LONGEST} characters"
    if _CONTROL.search(path) or "\\" in path:
        return "a path must not contain backslashes or control characters"
    if path.startswith("/"):
        return "a path must not be absolute"
    names = path.split("/")
    if ".." in names:
        return "a path must not contain `..`"
    if len(names) > _DEEPEST or any(len(name.encode()) > _LONGEST_NAME for name in names):
        return f"a path must have at most {_DEEPEST} names of at most {_LONGEST_NAME} bytes"
    return ""


def is_url(text: str) -> bool:
    """Returns whether the text begins with a URL scheme, e.g. `http:` or `file:`."""
    return _SCHEME.match(text) is not None


def is_http_url(text: str) -> bool:
    """Returns whether the text is an http(s) URL of at most 2048 characters."""
    return re.match(r"https?://[^/\s]", text, re.IGNORECASE) is not None and len(text) <= 2048


def check_local(href: str, folder: Path, known: set[Path]) -> None:
    """Checks that a path in a METS file is that of an existing file below a folder, without links.

    `known` contains folders that have been checked, and is extended. Raises
    WorkspaceInvalid.
    """
    wrong = path_error(href) or ("it is a URL" if is_url(href) else "")
    if wrong:
        raise WorkspaceInvalid(f"METS references {href!r:.200}: {wrong}")
    path = folder / href
    above = [row for row in path.parents if row.is_relative_to(folder) and row not in known]
    if any(row.is_symlink() or not row.is_dir() for row in above):
        raise WorkspaceInvalid(f"METS references {href!r:.200}, which does not exist")
    known.update(above)
    if path.is_symlink() or not path.is_file():
        raise WorkspaceInvalid(f"METS references {href!r:.200}, which does not exist")
