"""Keeps jobs in a bucket of an S3 server. The data folder of each host is its own scratch."""

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
from ocr_tasks.storage.s3 import Found, Objects

log = logging.getLogger(__name__)

#: Results up to so many bytes are checked before anything of them is sent; larger ones on the way.
_CHECKED_FIRST = 32 * 1024 * 1024

#: Seconds for which the bucket is not asked again whether it can be written.
_FRESH = 5.0


@dataclass(frozen=True)
class StoredObject:
    """A file in the bucket. `sha256`: what it should be; '' where nobody knows."""

    objects: Objects
    found: Found
    sha256: str = ""

    @property
    def size(self) -> int:
        return self.found.size

    @property
    def etag(self) -> str:
        return self.sha256 or self.found.etag

    @property
    def changed(self) -> datetime:
        return self.found.changed

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`.

        The last piece of a whole result is held back until its checksum is known to be right: one
        that was spoilt ends before its end, which every client notices.
        """
        rows = self.objects.pieces(self.found, start, stop)
        if not self.sha256 or stop - start != self.size:
            yield from rows
            return
        digest = hashlib.sha256()
        held = b""
        for piece in rows:
            digest.update(piece)
            if held:
                yield held
            held = piece
        if digest.hexdigest() != self.sha256:
            log.error("%s has another checksum than when it was made", self.found.name)
            raise errors.ResultCorrupt()
        yield held


@lru_cache(maxsize=1024)
def _digest(objects: Objects, found: Found) -> str:
    digest = hashlib.sha256()
    for piece in objects.pieces(found, 0, found.size):
        digest.update(piece)
    return digest.hexdigest()


class BucketStore:
    """See `store.Store`. In a child of a worker, `objects` are those of its main process."""

    in_folder = False

    def __init__(self, objects: Objects | RemoteObjects) -> None:
        self.objects = objects
        self._fresh_until = 0.0

    def adopt(self, upload: Path, job_id: str) -> None:
        with layout.failures():
            file = (upload / layout.INPUT).open("rb")
        with file:
            self.objects.put(key(job_id, layout.INPUT), file)
        layout.discard(upload)

    def read(self, job_id: str, name: str) -> bytes | None:
        return self.objects.read(key(job_id, name))

    def summaries(self, job_id: str, total: int) -> Mapping[int, Any]:
        written = self.read(job_id, layout.SUMMARIES)
        if written is not None:
            rows = json.loads(written)
            return {int(number): row for number, row in rows.items() if int(number) <= total}
        # None has been read yet, or the job comes from a folder.
        names = (row.name for row in self.objects.below(key(job_id, "pages/")))
        found = {
            int(name.split("/")[-2]): self.objects.read(name)
            for name in names
            if name.endswith("/summary.json")
        }
        return {
            number: json.loads(content) for number, content in found.items() if content is not None
        }

    def write(self, job_id: str, name: str, content: bytes) -> None:
        self.objects.put(key(job_id, name), content)

    def has(self, job_id: str, name: str) -> bool:
        if name.endswith("/"):
            return any(True for _ in self.objects.below(key(job_id, name)))
        return self.objects.find(key(job_id, name)) is not None

    def open(self, job_id: str, name: str) -> StoredObject | None:
        found = self.objects.find(key(job_id, name))
        return self._stored(found) if found else None

    def open_artifact(self, job_id: str, run: str, artifact: Artifact) -> StoredObject:
        name = f"runs/{run}/{layout.ARTIFACTS[artifact.name][0]}"
        found = self.objects.find(key(job_id, name))
        if found is None:
            raise errors.ResultGone()
        stored = self._stored(found, artifact.sha256)
        spoilt = found.size != artifact.bytes
        if not spoilt and found.size <= _CHECKED_FIRST:
            spoilt = _digest(stored.objects, found) != artifact.sha256
        if spoilt:
            raise errors.ResultCorrupt(
                f"{artifact.name} has another checksum than when it was made"
            )
        return stored

    def _stored(self, found: Found, sha256: str = "") -> StoredObject:
        assert isinstance(self.objects, Objects)  # noqa: S101  # children send nothing to clients
        return StoredObject(self.objects, found, sha256)

    def size(self, job_id: str, name: str) -> int:
        if name and not name.endswith("/"):
            found = self.objects.find(key(job_id, name))
            return found.size if found else 0
        return sum(row.size for row in self.objects.below(key(job_id, name)))

    def remove(self, job_id: str, *names: str) -> None:
        wanted = [key(job_id, name) for name in names]
        rows = [name for name in wanted if not name.endswith("/")]
        for folder in (name for name in wanted if name.endswith("/")):
            rows += [row.name for row in self.objects.below(folder)]
        self.objects.delete(rows)

    def delete(self, job_id: str) -> None:
        layout.delete(job_id)
        try:
            self.remove(job_id, "")
        except errors.ServiceError as error:
            log.warning("files of job %s are left in the bucket for now: %s", job_id, error)

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
        assert isinstance(objects, Objects)  # noqa: S101  # only the main process looks at all
        for shelf in objects.folders("jobs"):
            yield from filter(layout.is_id, objects.folders(f"jobs/{shelf}"))

    def age(self, job_id: str) -> float:
        times = [row.changed for row in self.objects.below(key(job_id))]
        return (datetime.now(UTC) - max(times)).total_seconds() if times else 0.0

    def check_room(self, incoming: int = 0) -> None:
        layout.check_room(incoming)
        if time.monotonic() > self._fresh_until:
            self._probe()

    def check_writable(self) -> None:
        layout.check_writable()
        self._probe()

    def _probe(self) -> None:
        self.objects.probe()
        self._fresh_until = time.monotonic() + _FRESH
