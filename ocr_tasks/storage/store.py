"""The permanent storage of jobs' files: the interface of all stores, and the store in use.

Files are stored in the data folder (`FolderStore`) or in an S3 bucket (`BucketStore`). Names are
relative to the folder of the job (see `layout`), e.g. `pages/000001/page.json`. The name of a
folder ends with a slash; '' is the whole folder of the job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from redis import RedisError

from ocr_tasks import errors, settings
from ocr_tasks.formats.page import Page
from ocr_tasks.model import Artifact
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from ocr_tasks.storage.folder import FolderStore

if TYPE_CHECKING:
    import socket

    from ocr_tasks.storage.broker import Broker


class AtWork(Protocol):
    """One run of a job, which works in the job's folder on this host."""

    def page_stored(self, number: int) -> None:
        """Stores the results of a page permanently, now or soon. `number` is 1-based."""

    def store_now(self, number: int) -> None:
        """Stores the files of a page permanently. `number` is 1-based."""

    def settle(self) -> None:
        """Deletes files that only another run would need. Call it when the run is committed."""


class Streamed(Protocol):
    """A file that is sent in chunks."""

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    @property
    def changed(self) -> datetime: ...

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields the bytes from `start` to `stop` (exclusive) in chunks."""


class Store(Protocol):
    """Storage of jobs' files.

    All methods except `delete` can raise errors.StorageFull and errors.StorageUnavailable.
    """

    #: Whether files are stored permanently in the job's folder on this host.
    in_folder: bool

    def adopt(self, upload: Path, job_id: str) -> None:
        """Turns a checked upload into the input of a job."""

    def read(self, job_id: str, name: str) -> bytes | None:
        """Returns the content of a small file, or None if it does not exist."""

    def summaries(self, job_id: str, total: int) -> Mapping[int, Any]:
        """Returns the content of `summary.json` of each finished page, by page number (1-based)."""

    def write(self, job_id: str, name: str, content: bytes) -> None:
        """Writes a small file atomically."""

    def has(self, job_id: str, name: str) -> bool:
        """Returns whether a file exists, or whether a folder contains anything."""

    def open(self, job_id: str, name: str) -> Path | Streamed | None:
        """Returns a file to send, or None if it does not exist."""

    def open_artifact(self, job_id: str, run: str, artifact: Artifact) -> Path | Streamed:
        """Returns a result to send. Raises ResultGone or ResultCorrupt if it is not intact."""

    def size(self, job_id: str, name: str) -> int:
        """Returns the size of a file or folder in bytes."""

    def remove(self, job_id: str, *names: str) -> None:
        """Deletes files and folders. Missing ones are ignored."""

    def delete(self, job_id: str) -> None:
        """Deletes all files of a job. The hourly cleanup retries what cannot be deleted now."""

    def at_work(self, job_id: str) -> AbstractContextManager[AtWork]:
        """Copies the files that a run needs to the job's folder, and stores what the run writes."""

    def jobs(self) -> Iterator[str]:
        """Yields the ids of all jobs that have files."""

    def age(self, job_id: str) -> float:
        """Returns the seconds since a file of a job was last written, 0 if it has no files."""

    def check_space(self, incoming: int = 0) -> None:
        """Raises StorageFull if `incoming` bytes would not leave the reserve free."""

    def check_writable(self) -> None:
        """Raises StorageFull or StorageUnavailable if files cannot be created."""


_chosen: Store | None = None


def get() -> Store:
    """Returns the store of this process."""
    global _chosen
    if _chosen is None:
        _chosen = _create()
    return _chosen


def use(store: Store | None) -> None:
    """Sets the store of this process. None resets it to the one in the settings."""
    global _chosen
    _chosen = store


def _create() -> Store:
    config = settings.get()
    if not config.storage_url:
        return FolderStore()
    # Loaded only if needed, because it takes a tenth of a second and some megabytes.
    from ocr_tasks.storage.bucket import BucketStore
    from ocr_tasks.storage.s3 import Objects

    return BucketStore(Objects(config))


# Workers, whose children have no network access to a bucket


def broker() -> Broker | None:
    """Returns the broker that transfers objects for a worker's children, None if not needed."""
    current = get()
    if current.in_folder:
        return None
    from ocr_tasks.storage.broker import Broker
    from ocr_tasks.storage.bucket import BucketStore
    from ocr_tasks.storage.s3 import Objects

    assert isinstance(current, BucketStore)  # noqa: S101  # the only other store
    assert isinstance(current.objects, Objects)  # noqa: S101
    return Broker(current.objects)


def use_broker(control: socket.socket) -> None:
    """Makes this child process transfer objects through the worker's main process."""
    from ocr_tasks.storage.broker import RemoteObjects
    from ocr_tasks.storage.bucket import BucketStore

    use(BucketStore(RemoteObjects(control)))


# Files that describe a job


def write_manifest(job_id: str, content: dict[str, Any]) -> None:
    """Writes the request of a job to `job.json`."""
    get().write(job_id, layout.REQUEST, json.dumps(content).encode())


def write_end(job_id: str, state: str, result: dict[str, Any]) -> None:
    """Writes the end of a job to `end.json`. Errors are ignored, because the file is optional.

    Deletes the files again if the job was deleted in the meantime.
    """
    with suppress(errors.ServiceError, RedisError):
        content = json.dumps({"state": state, "result": result})
        get().write(job_id, layout.END, content.encode())
        if connection.client().hget(keys.task(job_id), "state") == "deleted":
            get().delete(job_id)


def page(job_id: str, number: int) -> Page | None:
    """Returns the text of a page (1-based), or None if OCR has not finished it."""
    stored = get().read(job_id, f"pages/{number:06d}/{layout.PAGE_WORDS}")
    if stored is None:
        return None
    try:
        return Page.from_json(stored)
    except ValueError as error:
        raise errors.ResultCorrupt(f"The stored result of page {number} is corrupt") from error


def page_summaries(job_id: str, total: int) -> dict[int, dict[str, Any]]:
    """Returns the state of each finished page: see `plugin.page_results.PageStore.save_words`."""
    names = ("source", "confidence", "words", "worker")
    try:
        return {
            number: {"failed": bool(row.get("failed")), **{name: row[name] for name in names}}
            for number, row in get().summaries(job_id, total).items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise errors.ResultCorrupt("The stored page summaries are corrupt") from error
