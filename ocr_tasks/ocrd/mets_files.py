"""The METS file of a workspace on which many processors work at the same time.

A run works on a METS file of its own, with its pages alone. What it changed is put into the real
one under a lease. Writing the METS file of ten thousand pages takes a second, for which every page
of a workflow would wait: so the changes of such runs are first kept beside it, each as a METS file
of its own, and put into it together.

    mets.xml
    .mets.xml.pending/<run>.xml           what a run changed that is not in there yet
    .mets.xml.pending/<run>--<page>.xml   likewise, of one page
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ocr_tasks.ocrd import claims
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.storage import atomic, layout

#: Changes that are kept beside a METS file, and seconds for which it is not written then; with so
#: few open jobs of a workspace, each writes it at once: the last one must.
_MOST, _SECONDS, _FEW = 256, 20.0, 16

#: Characters of a page's id that are put into the name of a file.
_LONGEST = 100

_NAME = re.compile(r"[A-Za-z0-9-]+?(?:--(?P<page>[A-Za-z_][A-Za-z0-9_.-]*))?\.xml")


def read(mets: Path) -> Mets:
    """All that the METS file of a workspace says, with what is pending.

    It may be the one that others have: it must not be changed.
    """
    # First these: what is put into the METS file meanwhile is there twice then, and never missing.
    changes = list(_changes(mets, None))
    if not changes:
        return _kept(mets)
    found = Mets.read(mets)
    for change in changes:
        found.merge(change)
    return found


def excerpt(mets: Path, pages: Collection[str] | None, groups: Collection[str]) -> Mets:
    """A METS file for a run: of some pages, or of all; it is nobody else's."""
    changes = list(_changes(mets, pages))
    found = Mets.read(mets) if pages is None else _kept(mets).excerpt(pages, groups)
    for change in changes:
        found.merge(change)
    return found


def _kept(mets: Path) -> Mets:
    """A METS file, which a process reads once, unless it changed."""
    try:
        state = mets.stat()
    except OSError:
        return Mets.read(mets)  # says why not
    return _read_once(mets, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_once(path: Path, inode: int, size: int, changed: int) -> Mets:
    return Mets.read(path)


# Changes


def put(mets: Path, key: str, run_id: str, changes: Mets, page: str = "") -> None:
    """Puts what a run changed into the METS file of a workspace with this key.

    With a page it is one of many runs, and may be kept beside it for a while.
    """
    name = f"{run_id}--{page}.xml" if 0 < len(page) <= _LONGEST else f"{run_id}.xml"
    with layout.storage_errors():
        _keep(_folder(mets), name, changes)
    if not page or _is_time(mets, key):
        settle(mets, key)


def _keep(folder: Path, name: str, changes: Mets) -> None:
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # somebody has just removed the folder
            return changes.write(folder / name)


def _is_time(mets: Path, key: str) -> bool:
    return (
        claims.open_jobs(key) <= _FEW
        or len(_pending(mets)) >= _MOST
        or time.time() - mets.stat().st_mtime > _SECONDS
    )


def settle_if_few(mets: Path, key: str) -> None:
    """Puts what is pending into a METS file, if there are no more than a few open jobs."""
    if _folder(mets).exists() and claims.open_jobs(key) <= _FEW:
        settle(mets, key)


def settle(mets: Path, key: str) -> None:
    """Puts what is pending into a METS file."""
    if not _folder(mets).exists():
        return
    with claims.mets_lease(key) as lease:
        names = _pending(mets)
        if not names:
            return
        merged = Mets.read(mets)
        for name in names:
            merged.merge(Mets.read(_folder(mets) / name))
        with layout.storage_errors():
            with atomic.replacing(mets) as part:
                merged.write(part)
                shutil.copymode(mets, part)
                lease.keep()
            atomic.fsync(mets.parent)
        for name in names:
            (_folder(mets) / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody has just put something there
            _folder(mets).rmdir()


def _folder(mets: Path) -> Path:
    return mets.with_name(f".{mets.name}.pending")


def _pending(mets: Path) -> list[str]:
    """The names of the files with changes, the oldest first."""
    rows: list[tuple[int, str]] = []
    with suppress(FileNotFoundError):
        for entry in os.scandir(_folder(mets)):
            with suppress(FileNotFoundError):
                if _NAME.fullmatch(entry.name):
                    rows.append((entry.stat().st_mtime_ns, entry.name))
    return [name for _, name in sorted(rows)]


def _changes(mets: Path, pages: Collection[str] | None) -> Iterator[Mets]:
    for name in _pending(mets):
        found = _NAME.fullmatch(name)
        page = found["page"] if found else None
        if pages is None or page is None or page in pages:
            path = _folder(mets) / name
            with suppress(FileNotFoundError):  # it is in the METS file by now
                content = path.read_bytes()
                yield Mets.parse(content)
