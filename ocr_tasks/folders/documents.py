"""Which files of a folder are documents, and whether they are complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

#: Endings of what the server can read.
_ENDINGS = frozenset(
    {".pdf", ".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp"}
    | {".heic", ".heif", ".jp2", ".j2k", ".jpx"}
)

#: How names begin of what is hidden, locked or not to be seen yet.
_HIDDEN = (".", "~", "@", "#", "$")

#: Where a PDF ends: its last line is `%%EOF` (ISO 32000-1, 7.5.5); some programs write after it.
_PDF_END, _PDF_TAIL = b"%%EOF", 2048


@dataclass(frozen=True)
class Found:
    """A document, and where it lies in the tree that is kept for its results."""

    path: Path
    place: PurePath


def is_document(name: str) -> bool:
    """Whether a file of this name is a document: not hidden, not temporary, of a known kind."""
    return not name.startswith(_HIDDEN) and PurePath(name).suffix.lower() in _ENDINGS


def walk(
    folder: Path, without: Collection[Path], unreadable: Callable[[OSError], object]
) -> Iterator[Found]:
    """The documents of a folder and its folders, but for some; links are not followed.

    `unreadable` hears of folders in it that cannot be read.
    """
    for row in sorted(os.scandir(folder), key=lambda row: row.name):
        path = Path(row.path)
        if row.is_dir(follow_symlinks=False):
            if row.name.startswith(_HIDDEN) or path.resolve() in without:
                continue
            try:
                for found in walk(path, without, unreadable):
                    yield Found(found.path, PurePath(row.name) / found.place)
            except OSError as error:
                unreadable(error)
        elif row.is_file(follow_symlinks=False) and is_document(row.name):
            yield Found(path, PurePath(row.name))


def finished(path: Path) -> bool:
    """Whether a file looks complete: it is not empty, and a PDF has its end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _PDF_TAIL))
        tail = file.read()
    return bool(tail) and (path.suffix.lower() != ".pdf" or _PDF_END in tail)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
