"""Where a job's files last: in the data folder, or in a bucket; what asks does not know which.

A file is named as within the folder of its job (`storage`), such as `pages/000001/page.json`; the
name of a folder ends with a slash, and '' is all of them.
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

    from ocr_tasks.storage.broker import Porter


class AtWork(Protocol):
    """One run of a job, which reads and writes in the job's folder on this host."""

    def page_kept(self, number: int) -> None:
        """Has what was read on a page last, and be seen by others, from now on or soon."""

    def settle(self) -> None:
        """Lets go what other runs would have needed; to be called once the run counts."""


class Streamed(Protocol):
    """A file that is sent a piece at a time."""

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    @property
    def changed(self) -> datetime: ...

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`; raises ResultCorrupt, StorageUnavailable."""


class Store(Protocol):
    """All may raise errors.StorageFull or errors.StorageUnavailable, but for `delete`."""

    #: Whether the folder of a job on this host is where its files last.
    in_folder: bool

    def adopt(self, upload: Path, job_id: str) -> None:
        """Makes the document in the folder of a request that of a job."""

    def read(self, job_id: str, name: str) -> bytes | None:
        """What is in a small file; None: there is none."""

    def summaries(self, job_id: str, total: int) -> Mapping[int, Any]:
        """How each page went that was read so far, by its number, as it was written."""

    def write(self, job_id: str, name: str, content: bytes) -> None:
        """Writes a small file, whole or not at all."""

    def has(self, job_id: str, name: str) -> bool:
        """Whether there is a file, or anything in a folder, of this name."""

    def open(self, job_id: str, name: str) -> Path | Streamed | None:
        """A file to be sent; None: there is none."""

    def open_artifact(self, job_id: str, run: str, artifact: Artifact) -> Path | Streamed:
        """A result to be sent, which is what was made; raises ResultGone, ResultCorrupt."""

    def size(self, job_id: str, name: str) -> int:
        """The bytes that a file or folder takes."""

    def remove(self, job_id: str, *names: str) -> None:
        """Deletes files and folders, those that are there."""

    def delete(self, job_id: str) -> None:
        """Deletes all files of a job. What cannot be deleted now is found by the hourly look."""

    def at_work(self, job_id: str) -> AbstractContextManager[AtWork]:
        """Brings what a run needs into the job's folder; has what it leaves there last."""

    def jobs(self) -> Iterator[str]:
        """The ids of all jobs that have files."""

    def age(self, job_id: str) -> float:
        """Seconds since any file of a job was last written; 0: it has none."""

    def check_room(self, incoming: int = 0) -> None:
        """Makes sure that so many bytes fit and the reserve stays free."""

    def check_writable(self) -> None:
        """Makes sure that files can be made."""


_chosen: Store | None = None


def get() -> Store:
    """The store of this process."""
    global _chosen
    if _chosen is None:
        _chosen = _by_settings()
    return _chosen


def use(store: Store | None) -> None:
    """Makes this the store of the process; None: the one that the settings name."""
    global _chosen
    _chosen = store


def _by_settings() -> Store:
    config = settings.get()
    if not config.storage_url:
        return FolderStore()
    # Loaded where it is used: it takes a tenth of a second and some megabytes.
    from ocr_tasks.storage.bucket import BucketStore
    from ocr_tasks.storage.s3 import Objects

    return BucketStore(Objects(config))


# Workers, whose children have no way to a bucket


def porter() -> Porter | None:
    """Has the main process of a worker transfer for its children; None: they need nobody."""
    kept = get()
    if kept.in_folder:
        return None
    from ocr_tasks.storage.broker import Porter
    from ocr_tasks.storage.bucket import BucketStore
    from ocr_tasks.storage.s3 import Objects

    assert isinstance(kept, BucketStore)  # noqa: S101  # the other kind of store
    assert isinstance(kept.objects, Objects)  # noqa: S101
    return Porter(kept.objects)


def ask_porter(control: socket.socket) -> None:
    """Makes this a child's process, which has the main process transfer for it."""
    from ocr_tasks.storage.broker import RemoteObjects
    from ocr_tasks.storage.bucket import BucketStore

    use(BucketStore(RemoteObjects(control)))


# What is written down of a job


def write_manifest(job_id: str, content: dict[str, Any]) -> None:
    """Writes down what a job was asked for."""
    get().write(job_id, layout.REQUEST, json.dumps(content).encode())


def write_end(job_id: str, state: str, result: dict[str, Any]) -> None:
    """Writes down how a job ended; it is not told where that fails, as it is not needed.

    Of a job that was deleted in between, nothing is left.
    """
    with suppress(errors.ServiceError, RedisError):
        content = json.dumps({"state": state, "result": result})
        get().write(job_id, layout.END, content.encode())
        if connection.client().hget(keys.task(job_id), "state") == "deleted":
            get().delete(job_id)


def page(job_id: str, number: int) -> Page | None:
    """The words of a page, None before it is read."""
    stored = get().read(job_id, f"pages/{number:06d}/page.json")
    if stored is None:
        return None
    try:
        return Page.from_dict(json.loads(stored))
    except (ValueError, LookupError, TypeError) as error:
        raise errors.ResultCorrupt(f"page {number}") from error


def page_summaries(job_id: str, total: int) -> dict[int, dict[str, Any]]:
    """`source`, `confidence`, number of `words` and `worker` of each page that was read."""
    try:
        return {
            number: {name: row[name] for name in ("source", "confidence", "words", "worker")}
            for number, row in get().summaries(job_id, total).items()
        }
    except (ValueError, LookupError, TypeError) as error:
        raise errors.ResultCorrupt("what is known of the pages cannot be read") from error
