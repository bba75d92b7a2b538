"""What is known of each document of a folder, on disk: a restart goes on with it.

One small file each, which is replaced whole: that is safe on network shares too, and a file that
is broken costs one document's memory only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

#: Name of the folder, in the folder of the results.
FOLDER = ".ocr-tasks"


@dataclass(frozen=True)
class Stamp:
    """What shows that a file has changed: its bytes, and its time of change in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """A document: `name` tells it from others, `wish` is a digest of what was asked for.

    `job` is its job, '' before it is sent; `turn` grows when it has to be sent as a new one.
    `stem` is the path of its results in their folder, without endings, '' before they are there.
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
        """The entry of a document, if there is one that can be read."""
        return _parsed(self._path(name))

    def write(self, entry: Entry) -> None:
        """Stores an entry."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(entry.name)
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(entry), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def forget(self, name: str) -> None:
        """Deletes an entry."""
        self._path(name).unlink(missing_ok=True)

    def all(self) -> Iterator[Entry]:
        """All entries that can be read."""
        for path in self._folder.glob("*.json"):
            if entry := _parsed(path):
                yield entry

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _parsed(path: Path) -> Entry | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        known = {row.name: told[row.name] for row in fields(Entry) if row.name in told}
        stamp, results = Stamp(**told["stamp"]), tuple(told["results"])
        return Entry(**{**known, "stamp": stamp, "results": results})
    except (OSError, ValueError, LookupError, TypeError):
        return None
