"""Workspaces: taken in, listed, found by the path of their METS file, replaced, deleted.

    workspaces/<id>/workspace.json   whose it is, and since when; or that it was deleted
                    data/            METS, and the files that it names

The file system is the truth: nothing of this is in Redis. What is new appears by a rename, whole;
until then, and if it does not come to that, it lies in `uploads`, which is swept.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import claims, fetching, mets_files
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.ocrd.zip import ocrd_zip
from ocr_tasks.sandbox import forkserver
from ocr_tasks.storage import atomic, layout

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BASENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

_RECORD = "workspace.json"


def is_id(text: str) -> bool:
    """Whether a client may give a workspace this id."""
    return _ID.fullmatch(text) is not None


def all_workspaces() -> Path:
    """The folder in which the folders of all workspaces are."""
    return settings.get().data_dir / "workspaces"


# Taking in


def receive(
    upload_folder: Path, archive: Path, owner: str, workspace_id: str | None = None
) -> Workspace:
    """Makes a workspace of an OCRD-ZIP in the folder of an upload, or replaces the one with an id.

    One with that id that is not there is made. The folder of the upload becomes the workspace's.
    """
    if workspace_id is not None:
        if not is_id(workspace_id):
            raise errors.WorkspaceInvalid(
                "A workspace id has at most 64 letters, digits, dots, underscores and hyphens"
            )
        _check_replaceable(workspace_id, owner)
    found = _look(upload_folder, archive=archive.name)
    return _keep(upload_folder, found, owner, workspace_id or layout.new_id())


def fetch(
    mets_url: str, owner: str, groups: Sequence[str] | None, basename: str = "mets.xml"
) -> Workspace:
    """Makes a workspace of a METS file on the web, with the files of some groups, or of all."""
    if not _BASENAME.fullmatch(basename):
        raise errors.WorkspaceInvalid(f"{basename!r:.100} is not a valid name of a METS file")
    layout.check_room()
    folder = layout.new_upload()
    config = settings.get()
    fetcher = fetching.Fetcher(config.ocrd_fetch_seconds, config.ocrd_max_bytes)
    path = folder / "data" / basename
    try:
        url = fetcher.save(mets_url, path, config.ocrd_max_mets_bytes)
        _look(folder, mets=f"data/{basename}", complete=False)
        mets = Mets.read(path)
        for group in groups or ():
            if group not in mets.groups:
                raise errors.FileGroupUnknown(f"METS has no file group {group!r:.100}")
        fetching.fill(fetcher, mets, url, path, groups or mets.groups, config.ocrd_max_files)
        with layout.storage_errors():
            mets.write(path)
        found = _look(folder, mets=f"data/{basename}")
        return _keep(folder, found, owner, layout.new_id())
    finally:
        fetcher.close()
        layout.delete_tree(folder)


def _look(folder: Path, archive: str = "", mets: str = "", complete: bool = True) -> dict[str, Any]:
    """What `triage` finds."""
    config = settings.get()
    order = {
        "kind": "workspace",
        "data_dir": str(config.data_dir),
        "confine": config.confine,
        "archive": archive,
        "mets": mets,
        "complete": complete,
        "max_bytes": config.ocrd_max_bytes,
        "max_files": config.ocrd_max_files,
        "max_mets_bytes": config.ocrd_max_mets_bytes,
        "seconds": config.check_seconds,
        "memory_bytes": config.check_memory_bytes,
        "file_bytes": config.ocrd_max_bytes,
    }
    answer = forkserver.check(order, folder, config.check_seconds)
    if "code" in answer:
        raise errors.by_code()[str(answer["code"])](str(answer["detail"]))
    return answer


def _keep(folder: Path, found: dict[str, Any], owner: str, workspace_id: str) -> Workspace:
    """Makes a folder that has been looked into the workspace with an id."""
    record = {
        "id": workspace_id,
        "mets": found["mets"],
        "identifier": found["identifier"],
        "description": found["description"],
        "owner": owner,
        "created_at": time.time(),
    }
    with layout.storage_errors():
        for path in folder.iterdir():
            if path.name != "data":
                layout.delete_tree(path)
        atomic.write(folder / _RECORD, json.dumps(record).encode())
        for path in (*folder.rglob("*"), folder):
            atomic.fsync(path)
        all_workspaces().mkdir(parents=True, exist_ok=True)
        _swap(folder, workspace_id, owner)
    return _workspace(record)


def _swap(folder: Path, workspace_id: str, owner: str) -> None:
    target = all_workspaces() / workspace_id
    while True:
        old = None
        if target.exists():
            _check_replaceable(workspace_id, owner)
            with suppress(FileNotFoundError):
                old = _drop(target)
        try:
            folder.rename(target)
        except OSError as error:
            # Another one was put there meanwhile: it is the one to be replaced now.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue
        finally:
            if old:
                layout.delete_tree(old)
        atomic.fsync(target.parent)
        return


def _drop(path: Path) -> Path:
    """Moves something to where it is swept, should nobody come to delete it."""
    place = layout.new_upload() / "old"
    path.rename(place)
    return place.parent


def _check_replaceable(workspace_id: str, owner: str) -> None:
    with suppress(FileNotFoundError):
        record = _record(all_workspaces() / workspace_id)
        if record["owner"] != owner:
            raise errors.WorkspaceNotFound()
        if "deleted_at" not in record:
            _check_idle(_workspace(record))


def _check_idle(workspace: Workspace) -> None:
    count = claims.open_jobs(key(workspace))
    if count:
        raise errors.WorkspaceBusy(f"{count} jobs are using the workspace or waiting for it")


# Finding


def listed(owner: str | None) -> list[Workspace]:
    """Returns an owner's workspaces (None: everybody's), oldest first, without deleted ones."""
    found = []
    with layout.storage_errors(), suppress(FileNotFoundError):
        for row in os.scandir(all_workspaces()):
            with suppress(FileNotFoundError):  # replaced this very moment
                record = _record(Path(row.path))
                if "deleted_at" not in record and owner in (None, record["owner"]):
                    found.append(_workspace(record))
    return sorted(found, key=lambda workspace: (workspace.created_at, workspace.id))


def read(workspace_id: str, owner: str | None) -> Workspace:
    """The workspace with an id, if it is the owner's; None sees all."""
    if not is_id(workspace_id):
        raise errors.WorkspaceNotFound()
    with layout.storage_errors():
        try:
            record = _record(all_workspaces() / workspace_id)
        except FileNotFoundError:
            raise errors.WorkspaceNotFound() from None
    if owner not in (None, record["owner"]):
        raise errors.WorkspaceNotFound()
    if "deleted_at" in record:
        raise errors.WorkspaceDeleted()
    return _workspace(record)


def find(path_to_mets: str, owner: str | None) -> Workspace:
    """The workspace with a METS file: the owner's, or one in a folder of OCR_OCRD_FOLDERS."""
    try:
        path = Path(os.path.realpath(path_to_mets)) if path_to_mets.startswith("/") else None
    except (OSError, ValueError):  # no path at all
        path = None
    if path is None:
        raise errors.WorkspaceNotFound()
    own = all_workspaces().resolve()
    if path.is_relative_to(own):
        workspace_id = path.relative_to(own).parts[:1]
        with suppress(errors.WorkspaceDeleted):
            workspace = read("".join(workspace_id), owner)
            # Other files may say they are METS as well, and nobody has looked into them.
            if path == workspace.mets.resolve():
                return workspace
    elif not path.is_relative_to(settings.get().data_dir.resolve()) and any(
        path.is_relative_to(root) for root in settings.get().ocrd_roots
    ):
        with suppress(OSError):
            if path.is_file():
                return Workspace("", path, created_at=path.stat().st_mtime)
    raise errors.WorkspaceNotFound()


def key(workspace: Workspace) -> str:
    """What tells a workspace from all others: the same for each way to its METS file."""
    path = os.fsencode(os.path.realpath(workspace.mets))
    return hashlib.sha256(path).hexdigest()[:16]


def _record(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / _RECORD).read_bytes())
    except NotADirectoryError:  # a stray file
        raise FileNotFoundError from None
    return found


def _workspace(record: dict[str, Any]) -> Workspace:
    return Workspace(
        id=record["id"],
        mets=all_workspaces() / record["id"] / record["mets"],
        identifier=record["identifier"],
        description=record["description"],
        owner=record["owner"],
        created_at=record["created_at"],
    )


# Giving out, and away


def pack(workspace: Workspace) -> Iterator[bytes]:
    """The workspace as OCRD-ZIP, a piece at a time; see `bags.pack`."""
    mets_files.settle(workspace.mets, key(workspace))
    identifier = workspace.identifier or workspace.id or key(workspace)
    return ocrd_zip.pack(workspace.folder, workspace.mets.name, identifier)


def delete(workspace_id: str, owner: str | None) -> Workspace:
    """Deletes a workspace; that it was there is remembered."""
    workspace = read(workspace_id, owner)
    _check_idle(workspace)
    folder = all_workspaces() / workspace_id
    record = {"id": workspace_id, "owner": workspace.owner, "deleted_at": time.time()}
    with layout.storage_errors():
        atomic.write(folder / _RECORD, json.dumps(record).encode())
        with suppress(FileNotFoundError):
            layout.delete_tree(_drop(folder / "data"))
    return workspace
