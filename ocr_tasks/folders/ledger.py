"""The progress of each document of a folder, stored on disk and used after a restart.

Each document has one small JSON file, which is replaced atomically. This is safe on network shares
too, and a corrupt file affects only one document.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

#: Name of the ledger's folder in the folder for results.
FOLDER = ".ocr-tasks"


@dataclass(frozen=True)
class Stamp:
    """The size in bytes and the modification time of a file, to detect changes."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Returns the stamp of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """The progress of a document.

    `name` identifies the document, `wish` is a digest of the job options. `job` is the id of its
    job, '' before it is submitted. `turn` increases each time it has to be submitted again. `stem`
    is the path of its results in the folder for results, without extensions, '' before they are
    stored.
    """

    name: str
    stamp: Stamp
    sha256: str
    wish: str
    turn: int = 0
    job: str = ""
    stem: str = ""
    done: bool = False
    results: tuple[str, ...] = field(default=())


class Ledger:
    """The entries of a folder of results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Entry | None:
        """Returns the entry of a document, or None if there is none or it is corrupt."""
        return _load(self._path(name))

    def write(self, entry: Entry) -> None:
        """Stores an entry atomically and durably."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(entry.name)
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(entry), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def delete(self, name: str) -> None:
        """Deletes an entry."""
        self._path(name).unlink(missing_ok=True)

    def all(self) -> Iterator[Entry]:
        """Yields all entries that are not corrupt."""
        for path in self._folder.glob("*.json"):
            if entry := _load(path):
                yield entry

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _load(path: Path) -> Entry | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {row.name: data[row.name] for row in fields(Entry) if row.name in data}
        stamp, results = Stamp(**data["stamp"]), tuple(data["results"])
        return Entry(**{**known, "stamp": stamp, "results": results})
    except (OSError, ValueError, LookupError, TypeError):
        return None
