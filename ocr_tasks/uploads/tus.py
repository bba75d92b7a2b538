"""Uploads that may break off and go on, for large files over bad lines.

    resumable/<id>/upload.json   whose it is, how long it will be, what its sender says of it
                   content       the bytes that are here; how many they are is the offset
                   unchecked     while a piece comes that may prove wrong: where it begins
                   lock          locked by the request that writes
                   wanted        there while another request asks that one to stop

The offset is never a number that we keep: it is the size of a file to which is only appended, so no
crash can make it say more than there is. A piece with a checksum counts when it was found right;
until then `unchecked` says where the upload ends. What the answer to a piece confirms has been
written to the disk. One request writes at a time, the last one that comes, as a client that comes
again knows that its line broke long before we do (as tusd has it).

These are files without a record in Redis, in the data folder: all web processes that serve the same
uploads must share it.
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

#: Seconds that a request waits for the one that writes, and how often it and the other one look.
_PATIENCE = 10.0
LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is sent in pieces. Its client's name for it is kept as a label only.

    `length` is None as long as its sender does not know it. `job` and `fingerprint`: of what was
    made of it (`intake.Incoming`).
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
        """One of its files, by the name above."""
        return _folder(self.id) / name

    @property
    def most(self) -> int:
        """Bytes that it may have."""
        limit = settings.get().max_upload_bytes
        return limit if self.length is None else self.length


def create(owner: str, length: int | None, metadata: str, name: str, most_open: int) -> Upload:
    """An empty upload; of one owner `most_open` may be there at the same time, 0: any number."""
    limit = settings.get().max_upload_bytes
    if (length or 0) > limit:
        raise errors.UploadTooLarge(f"more than {limit} bytes", limit=limit)
    sweep()  # perhaps no worker sees this data folder
    if most_open and sum(row.owner == owner and not row.job for row in _all()) >= most_open:
        raise errors.LimitReached("open_uploads", most_open, 60)
    layout.check_room(length or 0)
    upload = Upload(layout.new_id(), owner, length, metadata, name)
    with layout.failures():
        folder = _folder(upload.id)
        folder.mkdir(parents=True)
        upload.content.touch()
        upload.file("lock").touch()  # now, as later it would make the upload look younger
        save(upload)
        atomic.fsync(folder.parent)
    return _found(upload.id)


def read(upload_id: str, sees: str | None) -> Upload:
    """Returns an upload that can resume or be used; `sees` is its owner, None for any."""
    upload = find(upload_id, sees)
    if upload.job:
        raise errors.UploadTaken(f"It became the job {upload.job}", job=upload.job)
    return upload


def settle(upload_id: str, sees: str | None) -> Upload:
    """As `read`, once nobody writes to it any more: who does is stopped."""
    read(upload_id, sees)
    with locked(upload_id):
        return read(upload_id, sees)


def find(upload_id: str, sees: str | None) -> Upload:
    """As `read`, also one that became a job."""
    upload = _found(upload_id)
    if sees is not None and upload.owner != sees:
        raise errors.UploadNotFound()
    if upload.expires < time.time():
        raise errors.UploadExpired()
    return upload


def delete(upload_id: str, sees: str | None) -> None:
    """Deletes an upload; who is writing to it is stopped."""
    read(upload_id, sees)
    with locked(upload_id):
        _discard(_folder(upload_id))


def become(uploads: Sequence[Upload], job_id: str, fingerprint: str) -> None:
    """Remembers of uploads which job they became, until they expire, and lets their bytes go."""
    for upload in uploads:
        # The job is made; what is left is deleted when the upload expires.
        failures = suppress(errors.UploadNotFound, errors.ServiceError)
        with failures, locked(upload.id), layout.failures():
            save(replace(_found(upload.id), job=job_id, fingerprint=fingerprint))
            upload.content.unlink(missing_ok=True)


def sweep() -> tuple[int, int]:
    """Deletes the uploads whose time is over and that nobody writes to: their number, and bytes."""
    count = size = 0
    for folder in _folders():
        if layout.age(folder) > settings.get().keep_uploads_seconds and not _in_use(folder):
            size += layout.size(folder)
            _discard(folder)
            count += 1
    return count, size


# Who may write


@contextmanager
def locked(upload_id: str) -> Iterator[None]:
    """Has an upload for oneself; whoever had it is asked to stop."""
    folder = _folder(upload_id)
    try:
        lock = (folder / "lock").open("ab")
    except FileNotFoundError:
        raise errors.UploadNotFound() from None
    with lock:
        gives_up = time.monotonic() + _PATIENCE
        try:
            while not _lock(lock.fileno()):
                if time.monotonic() > gives_up:
                    raise errors.UploadBusy(retry_after=2)
                with suppress(OSError):  # it is deleted just now
                    (folder / "wanted").touch()
                time.sleep(LOOK)
        finally:
            (folder / "wanted").unlink(missing_ok=True)
        yield


def _lock(number: int) -> bool:
    # Linux lets go of it when the process dies; over NFS the server does.
    with layout.failures():
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


def _all() -> Iterator[Upload]:
    for folder in _folders():
        with suppress(errors.UploadNotFound):
            yield _found(folder.name)


def _found(upload_id: str) -> Upload:
    folder = _folder(upload_id)
    with layout.failures():
        try:
            upload = Upload(id=upload_id, **json.loads((folder / "upload.json").read_bytes()))
            offset = upload.content.stat().st_size if not upload.job else 0
        except (FileNotFoundError, ValueError, TypeError):
            raise errors.UploadNotFound() from None
        with suppress(FileNotFoundError):
            offset = min(offset, int((folder / "unchecked").read_text()))
        expires = time.time() - layout.age(folder) + settings.get().keep_uploads_seconds
    return replace(upload, offset=offset, expires=expires)


def save(upload: Upload) -> None:
    """Writes down what is known of an upload."""
    row = asdict(upload)
    for name in ("id", "offset", "expires"):
        del row[name]
    atomic.write(_folder(upload.id) / "upload.json", json.dumps(row).encode(), durable=True)


def _discard(folder: Path) -> None:
    (folder / "upload.json").unlink(missing_ok=True)  # first, lest half of it be found
    layout.discard(folder)
