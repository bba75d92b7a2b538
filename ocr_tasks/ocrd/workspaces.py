"""Workspaces: created, listed, found by the path of their METS file, replaced and deleted.

    workspaces/<id>/workspace.json   owner and time of creation, or that it was deleted
                    data/            the METS file and the files that it references

The file system is authoritative; Redis holds no workspaces. A new workspace is prepared in
`uploads`, where leftovers are deleted, and appears with a rename.
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
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import fetching, mets_files, workspace_leases
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.ocrd.zip import ocrd_zip
from ocr_tasks.sandbox import forkserver
from ocr_tasks.storage import atomic, layout

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BASENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

_RECORD = "workspace.json"


def is_id(text: str) -> bool:
    """Returns whether a client may use this as the id of a workspace."""
    return _ID.fullmatch(text) is not None


def all_workspaces() -> Path:
    """Returns the folder with the folders of all workspaces."""
    return settings.get().data_dir / "workspaces"


# Creating


def receive(
    upload_folder: Path, archive: Path, owner: str, workspace_id: str | None = None
) -> Workspace:
    """Creates a workspace from an OCRD-ZIP in the folder of an upload.

    With `workspace_id`, replaces that workspace, or creates it if it does not exist. The upload's
    folder becomes the workspace's.
    """
    if workspace_id is not None:
        if not is_id(workspace_id):
            raise ocrd_errors.WorkspaceInvalid(
                "A workspace id has at most 64 letters, digits, dots, underscores and hyphens"
            )
        _check_replaceable(workspace_id, owner)
    found = _inspect(upload_folder, archive=archive.name)
    return _store(upload_folder, found, owner, workspace_id or layout.new_id())


def fetch(
    mets_url: str, owner: str, groups: Sequence[str] | None, basename: str = "mets.xml"
) -> Workspace:
    """Creates a workspace from a METS URL and its files, those of some groups or of all."""
    if not _BASENAME.fullmatch(basename):
        raise ocrd_errors.WorkspaceInvalid(f"{basename!r:.100} is not a valid name of a METS file")
    layout.check_space()
    folder = layout.new_upload()
    config = ocrd_settings.get()
    fetcher = fetching.Fetcher(config.ocrd_fetch_seconds, config.ocrd_max_bytes)
    path = folder / "data" / basename
    try:
        url = fetcher.save(mets_url, path, config.ocrd_max_mets_bytes)
        _inspect(folder, mets=f"data/{basename}", complete=False)
        mets = Mets.read(path)
        for group in groups or ():
            if group not in mets.groups:
                raise ocrd_errors.FileGroupUnknown(f"METS has no file group {group!r:.100}")
        fetching.fetch_files(fetcher, mets, url, path, groups or mets.groups, config.ocrd_max_files)
        with layout.storage_errors():
            mets.write(path)
        found = _inspect(folder, mets=f"data/{basename}")
        return _store(folder, found, owner, layout.new_id())
    finally:
        fetcher.close()
        layout.delete_tree(folder)


def _inspect(
    folder: Path, archive: str = "", mets: str = "", complete: bool = True
) -> dict[str, Any]:
    """Checks a workspace in a sandboxed process; returns `ocrd_zip.CheckedWorkspace` as a dict."""
    config = ocrd_settings.get()
    order = {
        "kind": "workspace",
        "archive": archive,
        "mets": mets,
        "complete": complete,
        "max_bytes": config.ocrd_max_bytes,
        "max_files": config.ocrd_max_files,
        "max_mets_bytes": config.ocrd_max_mets_bytes,
        "reserve_bytes": settings.get().reserve_bytes,
    }
    result = forkserver.check(order, folder, config.ocrd_max_bytes)
    if "code" in result:
        raise errors.by_code()[str(result["code"])](str(result["detail"]))
    return result


def _store(folder: Path, found: dict[str, Any], owner: str, workspace_id: str) -> Workspace:
    """Moves a checked folder to the workspace with this id, which it replaces."""
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
                old = _move_to_trash(target)
        try:
            folder.rename(target)
        except OSError as error:
            # Another process has just created the workspace, which now has to be replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue
        finally:
            if old:
                layout.delete_tree(old)
        atomic.fsync(target.parent)
        return


def _move_to_trash(path: Path) -> Path:
    """Moves a file or folder to `uploads`, where it is deleted later if this process dies."""
    place = layout.new_upload() / "old"
    path.rename(place)
    return place.parent


def _check_replaceable(workspace_id: str, owner: str) -> None:
    with suppress(FileNotFoundError):
        record = _record(all_workspaces() / workspace_id)
        if record["owner"] != owner:
            raise ocrd_errors.WorkspaceNotFound()
        if "deleted_at" not in record:
            _check_idle(_workspace(record))


def _check_idle(workspace: Workspace) -> None:
    count = workspace_leases.open_jobs(key(workspace))
    if count:
        raise ocrd_errors.WorkspaceBusy(f"Jobs that use the workspace or wait for it: {count}")


# Reading


def listed(owner: str | None) -> list[Workspace]:
    """Returns an owner's workspaces (None: everybody's), oldest first, without deleted ones."""
    found = []
    with layout.storage_errors(), suppress(FileNotFoundError):
        for row in os.scandir(all_workspaces()):
            with suppress(FileNotFoundError):  # it has just been replaced
                record = _record(Path(row.path))
                if "deleted_at" not in record and owner in (None, record["owner"]):
                    found.append(_workspace(record))
    return sorted(found, key=lambda workspace: (workspace.created_at, workspace.id))


def read(workspace_id: str, owner: str | None) -> Workspace:
    """Returns the workspace with an id, if `owner` may see it; None sees all."""
    if not is_id(workspace_id):
        raise ocrd_errors.WorkspaceNotFound()
    with layout.storage_errors():
        try:
            record = _record(all_workspaces() / workspace_id)
        except FileNotFoundError:
            raise ocrd_errors.WorkspaceNotFound() from None
    if owner not in (None, record["owner"]):
        raise ocrd_errors.WorkspaceNotFound()
    if "deleted_at" in record:
        raise ocrd_errors.WorkspaceDeleted()
    return _workspace(record)


def find(path_to_mets: str, owner: str | None) -> Workspace:
    """Returns the workspace with a METS file: the owner's, or one in OCR_OCRD_FOLDERS.

    Raises ocrd_errors.WorkspaceNotFound.
    """
    try:
        path = Path(os.path.realpath(path_to_mets)) if path_to_mets.startswith("/") else None
    except (OSError, ValueError):  # not a path
        path = None
    if path is None:
        raise ocrd_errors.WorkspaceNotFound()
    own = all_workspaces().resolve()
    if path.is_relative_to(own):
        workspace_id = path.relative_to(own).parts[:1]
        with suppress(ocrd_errors.WorkspaceDeleted):
            workspace = read("".join(workspace_id), owner)
            # Other METS files in the workspace have not been checked.
            if path == workspace.mets.resolve():
                return workspace
    elif not path.is_relative_to(settings.get().data_dir.resolve()) and any(
        path.is_relative_to(root) for root in ocrd_settings.get().ocrd_folders
    ):
        with suppress(OSError):
            if path.is_file():
                return Workspace("", path, created_at=path.stat().st_mtime)
    raise ocrd_errors.WorkspaceNotFound()


def key(workspace: Workspace) -> str:
    """Returns the key of a workspace: a hash of the real path of its METS file."""
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


# Packing and deleting


def pack(workspace: Workspace) -> Iterator[bytes]:
    """Yields the workspace as OCRD-ZIP in chunks; see `ocrd_zip.pack`."""
    mets_files.merge_pending(workspace.mets, key(workspace))
    identifier = workspace.identifier or workspace.id or key(workspace)
    return ocrd_zip.pack(workspace.folder, workspace.mets.name, identifier)


def delete(workspace_id: str, owner: str | None) -> Workspace:
    """Deletes a workspace and leaves a record of the deletion; returns the workspace."""
    workspace = read(workspace_id, owner)
    _check_idle(workspace)
    folder = all_workspaces() / workspace_id
    record = {"id": workspace_id, "owner": workspace.owner, "deleted_at": time.time()}
    with layout.storage_errors():
        atomic.write(folder / _RECORD, json.dumps(record).encode())
        with suppress(FileNotFoundError):
            layout.delete_tree(_move_to_trash(folder / "data"))
    return workspace
