"""Finds the documents of a folder and checks whether they are complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

#: File extensions that the server supports.
_EXTENSIONS = frozenset(
    {".pdf", ".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp"}
    | {".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx"}
)

#: Prefixes of the names of hidden, lock and temporary files.
_HIDDEN = (".", "~", "@", "#", "$")

#: The last line of a PDF (ISO 32000-1, 7.5.5). Some programs write more data after it, so it is
#: searched for in the last bytes of the file.
_PDF_END, _PDF_TAIL = b"%%EOF", 2048


@dataclass(frozen=True)
class Document:
    """A document. `place` is its relative path, which its results get too."""

    path: Path
    place: PurePath


def is_document(name: str) -> bool:
    """Returns whether a file name has a supported extension and is not hidden or temporary."""
    return not name.startswith(_HIDDEN) and PurePath(name).suffix.lower() in _EXTENSIONS


def walk(
    folder: Path, excluded: Collection[Path], on_error: Callable[[OSError], object]
) -> Iterator[Document]:
    """Yields the documents of a folder and its subfolders, without following symbolic links.

    Skips excluded folders. Calls `on_error` for each subfolder that cannot be listed.
    """
    for row in sorted(os.scandir(folder), key=lambda row: row.name):
        path = Path(row.path)
        if row.is_dir(follow_symlinks=False):
            if row.name.startswith(_HIDDEN) or path.resolve() in excluded:
                continue
            try:
                for document in walk(path, excluded, on_error):
                    yield Document(document.path, PurePath(row.name) / document.place)
            except OSError as error:
                on_error(error)
        elif row.is_file(follow_symlinks=False) and is_document(row.name):
            yield Document(path, PurePath(row.name))


def is_complete(path: Path) -> bool:
    """Returns whether a file looks complete: it is not empty, and a PDF has its end marker."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _PDF_TAIL))
        tail = file.read()
    return bool(tail) and (path.suffix.lower() != ".pdf" or _PDF_END in tail)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
