"""Resumable uploads (tus protocol 1.0.0).

    resumable/<id>/upload.json   owner, length, and the client's metadata
                   content       the received bytes; its size is the offset
                   unchecked     while a chunk with a checksum is received: where the chunk begins
                   lock          locked by the request that is writing
                   wanted        exists while another request asks the writing request to stop

The offset is not stored: it is the size of a file that is only appended to, so a crash cannot make
it wrong. A chunk with a checksum counts when it has been verified; until then, `unchecked` contains
the offset. The bytes that a response confirms have been synced to disk.

Only one request writes at a time, and a new request stops the previous one: a client notices a
broken connection long before the server does. tusd works in the same way.

Uploads are files in the data folder, without a record in Redis. All web processes that serve the
same uploads must share the data folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ocr_tasks import errors, settings
from ocr_tasks.storage import atomic, layout

#: Seconds that a request waits for the writing request to stop, and seconds between two checks.
_PATIENCE = 10.0
LOOK = 0.1


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """A resumable upload. The client's file name is only a label.

    `length` is in bytes, or None while the client does not know it. `job` and `fingerprint` are set
    when the upload has become a job (`receive.Upload`). `expires` is in seconds since the epoch.
    """

    id: str
    owner: str
    length: int | None
    metadata: str = ""
    untrusted_name: str = ""
    job: str = ""
    fingerprint: str = ""
    offset: int = 0
    expires: float = 0.0

    @property
    def content(self) -> Path:
        return self.file("content")

    def file(self, name: str) -> Path:
        """Returns the path of one of its files (see the module's docstring)."""
        return _folder(self.id) / name

    @property
    def most(self) -> int:
        """The maximum number of bytes that it can have."""
        limit = settings.get().max_upload_bytes
        return limit if self.length is None else self.length


def create(
    owner: str, length: int | None, metadata: str, name: str, most_open: int
) -> ResumableUpload:
    """Creates an empty upload.

    `most_open` is the maximum number of open uploads of one owner, 0 for unlimited.
    """
    limit = settings.get().max_upload_bytes
    if (length or 0) > limit:
        raise errors.UploadTooLarge(f"The upload is larger than {limit} bytes", limit=limit)
    sweep()  # in case no worker shares this data folder
    if most_open and sum(row.owner == owner and not row.job for row in _all()) >= most_open:
        raise errors.LimitReached("open_uploads", most_open, 60)
    layout.check_space(length or 0)
    upload = ResumableUpload(layout.new_id(), owner, length, metadata, name)
    with layout.storage_errors():
        folder = _folder(upload.id)
        folder.mkdir(parents=True)
        upload.content.touch()
        upload.file("lock").touch()  # creating it later would change the age of the upload
        save(upload)
        atomic.fsync(folder.parent)
    return _load(upload.id)


def read(upload_id: str, sees: str | None) -> ResumableUpload:
    """Returns an upload that has not become a job. `sees` is the required owner, None for any."""
    upload = find(upload_id, sees)
    if upload.job:
        raise errors.UploadAlreadyUsed(
            f"The upload is already the job {upload.job}", job=upload.job
        )
    return upload


def settle(upload_id: str, sees: str | None) -> ResumableUpload:
    """Stops a request that is writing to an upload, and returns the upload like `read`."""
    read(upload_id, sees)
    with locked(upload_id):
        return read(upload_id, sees)


def find(upload_id: str, sees: str | None) -> ResumableUpload:
    """Returns an upload like `read`, but also one that has become a job."""
    upload = _load(upload_id)
    if sees is not None and upload.owner != sees:
        raise errors.UploadNotFound()
    if upload.expires < time.time():
        raise errors.UploadExpired()
    return upload


def delete(upload_id: str, sees: str | None) -> None:
    """Deletes an upload. A request that is writing to it is stopped."""
    read(upload_id, sees)
    with locked(upload_id):
        _discard(_folder(upload_id))


def mark_as_job(uploads: Sequence[ResumableUpload], job_id: str, fingerprint: str) -> None:
    """Records the job that uploads became, until they expire, and deletes their content."""
    for upload in uploads:
        # The job exists already. If this fails, the content is deleted when the upload expires.
        failures = suppress(errors.UploadNotFound, errors.ServiceError)
        with failures, locked(upload.id), layout.storage_errors():
            save(replace(_load(upload.id), job=job_id, fingerprint=fingerprint))
            upload.content.unlink(missing_ok=True)


def sweep() -> tuple[int, int]:
    """Deletes expired uploads that are not being written. Returns their number and bytes."""
    count = size = 0
    for folder in _folders():
        if layout.age(folder) > settings.get().keep_uploads_seconds and not _in_use(folder):
            size += layout.size(folder)
            _discard(folder)
            count += 1
    return count, size


# Locking


@contextmanager
def locked(upload_id: str) -> Iterator[None]:
    """Locks an upload for the block. The request that holds the lock is asked to stop."""
    folder = _folder(upload_id)
    try:
        lock = (folder / "lock").open("ab")
    except FileNotFoundError:
        raise errors.UploadNotFound() from None
    with lock:
        deadline = time.monotonic() + _PATIENCE
        try:
            while not _lock(lock.fileno()):
                if time.monotonic() > deadline:
                    raise errors.UploadBusy(retry_after=2)
                with suppress(OSError):  # the upload is being deleted
                    (folder / "wanted").touch()
                time.sleep(LOOK)
        finally:
            (folder / "wanted").unlink(missing_ok=True)
        yield


def _lock(number: int) -> bool:
    # The lock is released when the process dies: by Linux, or by the server with NFS.
    with layout.storage_errors():
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _in_use(folder: Path) -> bool:
    try:
        with (folder / "lock").open("ab") as lock:
            return not _lock(lock.fileno())
    except (OSError, errors.ServiceError):
        return False


# Files


def _folders() -> Iterator[Path]:
    with suppress(FileNotFoundError):
        for row in os.scandir(settings.get().data_dir / "resumable"):
            if layout.is_id(row.name):
                yield Path(row.path)


def _folder(upload_id: str) -> Path:
    if not layout.is_id(upload_id):
        raise errors.UploadNotFound()
    return settings.get().data_dir / "resumable" / upload_id


def _all() -> Iterator[ResumableUpload]:
    for folder in _folders():
        with suppress(errors.UploadNotFound):
            yield _load(folder.name)


def _load(upload_id: str) -> ResumableUpload:
    folder = _folder(upload_id)
    with layout.storage_errors():
        try:
            upload = ResumableUpload(
                id=upload_id, **json.loads((folder / "upload.json").read_bytes())
            )
            offset = upload.content.stat().st_size if not upload.job else 0
        except (FileNotFoundError, ValueError, TypeError):
            raise errors.UploadNotFound() from None
        with suppress(FileNotFoundError):
            offset = min(offset, int((folder / "unchecked").read_text()))
        expires = time.time() - layout.age(folder) + settings.get().keep_uploads_seconds
    return replace(upload, offset=offset, expires=expires)


def save(upload: ResumableUpload) -> None:
    """Writes `upload.json` of an upload. The caller must hold its lock."""
    row = asdict(upload)
    for name in ("id", "offset", "expires"):
        del row[name]
    atomic.write(_folder(upload.id) / "upload.json", json.dumps(row).encode(), durable=True)


def _discard(folder: Path) -> None:
    (folder / "upload.json").unlink(missing_ok=True)  # first, so the upload is gone at once
    layout.delete_tree(folder)
