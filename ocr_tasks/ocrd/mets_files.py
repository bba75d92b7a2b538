"""Reads and updates the METS file of a workspace on which many runs work at the same time.

A run works on its own METS file, which contains only its pages. Its changes are merged into the
workspace's METS file under a lease. Writing a METS file of ten thousand pages takes a second.
Therefore the changes of page-wise runs are first stored next to it, each as a METS file, and merged
together:

    mets.xml
    .mets.xml.pending/<run>.xml           changes of a run that have not been merged
    .mets.xml.pending/<run>--<page>.xml   the same, of a run with one page
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

from ocr_tasks.ocrd import workspace_leases
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.storage import atomic, layout

#: Limits of pending changes: their number, and the age of the METS file in seconds. If at most
#: `_FEW_JOBS` jobs of the workspace are open, each merges at once, because the last one must.
_MAX_PENDING, _MAX_SECONDS, _FEW_JOBS = 256, 20.0, 16

#: Maximum characters of a page id in a file name.
_MAX_ID_LENGTH = 100

_NAME = re.compile(r"[A-Za-z0-9-]+?(?:--(?P<page>[A-Za-z_][A-Za-z0-9_.-]*))?\.xml")


def read(mets: Path) -> Mets:
    """Returns the content of a workspace's METS file, with pending changes.

    The result may be shared; it must not be modified.
    """
    # Read before the METS file: changes that are merged meanwhile are then read twice, not missed.
    changes = list(_changes(mets, None))
    if not changes:
        return _cached(mets)
    found = Mets.read(mets)
    for change in changes:
        found.merge(change)
    return found


def excerpt(mets: Path, pages: Collection[str] | None, groups: Collection[str]) -> Mets:
    """Returns a METS file for a run, with some pages or all; the caller may modify it."""
    changes = list(_changes(mets, pages))
    found = Mets.read(mets) if pages is None else _cached(mets).excerpt(pages, groups)
    for change in changes:
        found.merge(change)
    return found


def _cached(mets: Path) -> Mets:
    """Returns a METS file from a cache that is keyed by inode, size and modification time."""
    try:
        state = mets.stat()
    except OSError:
        return Mets.read(mets)  # raises with the reason
    return _read_cached(mets, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_cached(path: Path, inode: int, size: int, changed: int) -> Mets:
    return Mets.read(path)


# Changes


def put(mets: Path, key: str, run_id: str, changes: Mets, page: str = "") -> None:
    """Adds the changes of a run to the METS file of the workspace with this key.

    With `page`, the run is one of many, and its changes may stay pending for up to 20 seconds.
    """
    name = f"{run_id}--{page}.xml" if 0 < len(page) <= _MAX_ID_LENGTH else f"{run_id}.xml"
    with layout.storage_errors():
        _write_changes(_folder(mets), name, changes)
    if not page or _is_merge_due(mets, key):
        merge_pending(mets, key)


def _write_changes(folder: Path, name: str, changes: Mets) -> None:
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # the folder has just been removed
            return changes.write(folder / name)


def _is_merge_due(mets: Path, key: str) -> bool:
    return (
        workspace_leases.open_jobs(key) <= _FEW_JOBS
        or len(_pending(mets)) >= _MAX_PENDING
        or time.time() - mets.stat().st_mtime > _MAX_SECONDS
    )


def merge_pending_if_few_jobs(mets: Path, key: str) -> None:
    """Merges pending changes if few jobs of the workspace are open."""
    if _folder(mets).exists() and workspace_leases.open_jobs(key) <= _FEW_JOBS:
        merge_pending(mets, key)


def merge_pending(mets: Path, key: str) -> None:
    """Merges pending changes into a METS file."""
    if not _folder(mets).exists():
        return
    with workspace_leases.mets_lease(key) as lease:
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
                lease.renew()
            atomic.fsync(mets.parent)
        for name in names:
            (_folder(mets) / name).unlink(missing_ok=True)
        with suppress(OSError):  # a change has just been added
            _folder(mets).rmdir()


def _folder(mets: Path) -> Path:
    return mets.with_name(f".{mets.name}.pending")


def _pending(mets: Path) -> list[str]:
    """Returns the names of the files with pending changes, oldest first."""
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
            with suppress(FileNotFoundError):  # it has just been merged
                content = path.read_bytes()
                yield Mets.parse(content)
