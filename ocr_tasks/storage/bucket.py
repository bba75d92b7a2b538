"""Stores jobs in an S3 bucket. The data folder of each host is temporary storage."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ocr_tasks import errors
from ocr_tasks.model import Artifact
from ocr_tasks.storage import layout
from ocr_tasks.storage.broker import RemoteObjects
from ocr_tasks.storage.mirror import Mirror, key
from ocr_tasks.storage.s3 import ObjectInfo, Objects

log = logging.getLogger(__name__)

#: Results up to this size in bytes are verified before they are sent; larger ones while they are.
_CHECKED_FIRST = 32 * 1024 * 1024

#: Maximum number of attempts to delete all objects of a job.
_DELETE_ATTEMPTS = 3

#: Seconds between two checks of whether the bucket is writable.
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class StoredObject:
    """A file in the bucket. `sha256` is the expected checksum, '' if unknown."""

    objects: Objects
    info: ObjectInfo
    sha256: str = ""

    @property
    def size(self) -> int:
        return self.info.size

    @property
    def etag(self) -> str:
        return self.sha256 or self.info.etag

    @property
    def changed(self) -> datetime:
        return self.info.changed

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields the bytes from `start` to `stop` (exclusive) in chunks.

        If the whole file is read, its last chunk is only sent after the checksum was verified.
        A corrupt file is therefore truncated, which every client notices.
        """
        rows = self.objects.chunks(self.info, start, stop)
        if not self.sha256 or stop - start != self.size:
            yield from rows
            return
        digest = hashlib.sha256()
        pending = b""
        for chunk in rows:
            digest.update(chunk)
            if pending:
                yield pending
            pending = chunk
        if digest.hexdigest() != self.sha256:
            log.error("the checksum of %s differs from when it was created", self.info.name)
            raise errors.ResultCorrupt()
        yield pending


@lru_cache(maxsize=1024)
def _digest(objects: Objects, info: ObjectInfo) -> str:
    digest = hashlib.sha256()
    for chunk in objects.chunks(info, 0, info.size):
        digest.update(chunk)
    return digest.hexdigest()


class BucketStore:
    """See `store.Store`. In a child of a worker, `objects` is a RemoteObjects."""

    in_folder = False

    def __init__(self, objects: Objects | RemoteObjects) -> None:
        self.objects = objects
        self._next_probe = 0.0

    def adopt(self, upload: Path, job_id: str) -> None:
        with layout.storage_errors():
            file = (upload / layout.INPUT).open("rb")
        with file:
            self.objects.put(key(job_id, layout.INPUT), file)
        layout.delete_tree(upload)

    def read(self, job_id: str, name: str) -> bytes | None:
        return self.objects.read(key(job_id, name))

    def summaries(self, job_id: str, total: int) -> Mapping[int, Any]:
        content = self.read(job_id, layout.SUMMARIES)
        if content is not None:
            rows = json.loads(content)
            return {int(number): row for number, row in rows.items() if int(number) <= total}
        # No page is finished yet, or the job was copied from a data folder.
        names = (row.name for row in self.objects.below(key(job_id, "pages/")))
        contents = {
            int(name.split("/")[-2]): self.objects.read(name)
            for name in names
            if name.endswith("/summary.json")
        }
        return {
            number: json.loads(content)
            for number, content in contents.items()
            if content is not None
        }

    def write(self, job_id: str, name: str, content: bytes) -> None:
        self.objects.put(key(job_id, name), content)

    def has(self, job_id: str, name: str) -> bool:
        if name.endswith("/"):
            return any(True for _ in self.objects.below(key(job_id, name)))
        return self.objects.find(key(job_id, name)) is not None

    def open(self, job_id: str, name: str) -> StoredObject | None:
        info = self.objects.find(key(job_id, name))
        return self._stored(info) if info else None

    def open_artifact(self, job_id: str, run: str, artifact: Artifact) -> StoredObject:
        name = f"runs/{run}/{layout.ARTIFACTS[artifact.name][0]}"
        info = self.objects.find(key(job_id, name))
        if info is None:
            raise errors.ResultGone()
        stored = self._stored(info, artifact.sha256)
        corrupt = info.size != artifact.bytes
        if not corrupt and info.size <= _CHECKED_FIRST:
            corrupt = _digest(stored.objects, info) != artifact.sha256
        if corrupt:
            raise errors.ResultCorrupt(f"{artifact.name} does not match its recorded checksum")
        return stored

    def _stored(self, info: ObjectInfo, sha256: str = "") -> StoredObject:
        assert isinstance(self.objects, Objects)  # noqa: S101  # children of workers send no files
        return StoredObject(self.objects, info, sha256)

    def size(self, job_id: str, name: str) -> int:
        if name and not name.endswith("/"):
            info = self.objects.find(key(job_id, name))
            return info.size if info else 0
        return sum(row.size for row in self.objects.below(key(job_id, name)))

    def remove(self, job_id: str, *names: str) -> None:
        keys = [key(job_id, name) for name in names]
        objects = [name for name in keys if not name.endswith("/")]
        for folder in (name for name in keys if name.endswith("/")):
            objects += [row.name for row in self.objects.below(folder)]
        self.objects.delete(objects)

    def delete(self, job_id: str) -> None:
        layout.delete(job_id)
        try:
            # Another client may upload or delete files of the job at the same time.
            for _ in range(_DELETE_ATTEMPTS):
                names = [row.name for row in self.objects.below(key(job_id))]
                if not names:
                    return
                self.objects.delete(names)
        except errors.ServiceError as error:
            log.warning("cannot delete all files of job %s from the bucket yet: %s", job_id, error)

    @contextmanager
    def at_work(self, job_id: str) -> Iterator[Mirror]:
        mirror = Mirror(self.objects, job_id)
        succeeded = False
        try:
            mirror.begin()
            yield mirror
            succeeded = True
        finally:
            mirror.end(succeeded)

    def jobs(self) -> Iterator[str]:
        objects = self.objects
        assert isinstance(objects, Objects)  # noqa: S101  # only main processes list all jobs
        for prefix in objects.folders("jobs"):
            yield from filter(layout.is_id, objects.folders(f"jobs/{prefix}"))

    def age(self, job_id: str) -> float:
        times = [row.changed for row in self.objects.below(key(job_id))]
        return (datetime.now(UTC) - max(times)).total_seconds() if times else 0.0

    def check_space(self, incoming: int = 0) -> None:
        layout.check_space(incoming)
        if time.monotonic() > self._next_probe:
            self._probe()

    def check_writable(self) -> None:
        layout.check_writable()
        self._probe()

    def _probe(self) -> None:
        self.objects.probe()
        self._next_probe = time.monotonic() + _PROBE_SECONDS
