"""A bucket of an S3 server: whole objects, in and out a piece at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from ocr_tasks import errors

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from ocr_tasks.settings import Settings

#: Bytes of an object that is read that are in memory at a time.
PIECE = 256 * 1024

#: Likewise of one that is written: so many parts of so many large objects.
_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_LARGE_AT_ONCE = 2

#: What servers say that have no room: AWS's and others' codes, and HTTP's 507.
_FULL = ("QuotaExceeded", "StorageFull", "EntityTooLargeForQuota", "507 Insufficient Storage")

#: Empty object that is written to see whether the bucket can be.
_PROBE = ".probe"


@dataclass(frozen=True)
class Found:
    """An object, without what is in it."""

    name: str
    size: int
    etag: str
    changed: datetime


@contextmanager
def failures() -> Iterator[None]:
    """Turns what the client of the bucket says into errors of ours."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise errors.StorageUnavailable("there is no such bucket") from error
        raise
    except (BaseError, OSError) as error:
        text = str(error)
        if any(code in text for code in _FULL):
            raise errors.StorageFull() from error
        # Not the text: it has addresses and keys in it, and clients see this.
        reason = type(error).__name__.removesuffix("Error")
        raise errors.StorageUnavailable(f"the bucket cannot be used: {reason}") from error


class Objects:
    """The objects of a bucket below a prefix."""

    def __init__(self, config: Settings) -> None:
        self._store = _connect(config, retries=5, seconds=20)
        #: For questions to which the answer matters only while somebody waits for it.
        self._quick = _connect(config, retries=1, seconds=3)
        self._large = threading.Semaphore(_LARGE_AT_ONCE)

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        """Makes an object; it is there whole or not at all."""
        large = not isinstance(content, bytes) and os.fstat(content.fileno()).st_size > _PART
        with self._large if large else nullcontext(), failures():
            obstore.put(
                self._store, name, content, chunk_size=_PART, max_concurrency=_PARTS_AT_ONCE
            )

    def find(self, name: str) -> Found | None:
        """The object of this name."""
        try:
            with failures():
                return _found(obstore.head(self._store, name))
        except FileNotFoundError:
            return None

    def pieces(self, found: Found, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of an object from `start` to before `stop`, a piece at a time.

        Goes on where a connection broke, as that of a slow reader does after a while.
        """
        at = start
        while at < stop:
            began = at
            try:
                for piece in self._stream(found, at, stop):
                    yield piece
                    at += len(piece)
            except errors.StorageUnavailable:
                if at == began:
                    raise

    def _stream(self, found: Found, start: int, stop: int) -> Iterator[bytes]:
        try:
            with failures():
                got = obstore.get(self._store, found.name, options={"range": (start, stop)})
                if _plain(got.meta["e_tag"]) != found.etag:
                    raise errors.StorageUnavailable("the object was replaced meanwhile")
                for piece in got.stream(min_chunk_size=PIECE):
                    yield bytes(piece)
        except FileNotFoundError:
            raise errors.StorageUnavailable("the object was deleted meanwhile") from None

    def get(self, found: Found, file: BinaryIO) -> None:
        """Writes an object into a file."""
        for piece in self.pieces(found, 0, found.size):
            file.write(piece)

    def read(self, name: str) -> bytes | None:
        """What is in a small object, in one request."""
        try:
            with failures():
                return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def below(self, prefix: str) -> Iterator[Found]:
        """The objects below a folder."""
        with failures():
            for rows in obstore.list(self._store, prefix):
                yield from map(_found, rows)

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders in a folder."""
        with failures():
            paths = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return [path.rpartition("/")[2] for path in paths]

    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects, those that are there."""
        if names:
            with failures(), suppress(FileNotFoundError):
                obstore.delete(self._store, list(names))

    def probe(self) -> None:
        """Makes sure that the bucket can be written, by one small request."""
        try:
            with failures():
                obstore.put(self._quick, _PROBE, b"", use_multipart=False)
        except FileNotFoundError:
            raise errors.StorageUnavailable("there is no such bucket") from None


def _found(meta: Any) -> Found:
    changed = meta["last_modified"] or datetime.fromtimestamp(0, UTC)
    return Found(meta["path"], meta["size"], _plain(meta["e_tag"]), changed)


def _plain(etag: str | None) -> str:
    return (etag or "").strip('"')


def _connect(config: Settings, retries: int, seconds: int) -> S3Store:
    bucket, prefix = config.bucket
    chosen = {
        "access_key_id": config.s3_access_key_id,
        "secret_access_key": config.s3_secret_access_key,
        "region": config.s3_region,
        "endpoint": config.s3_endpoint,
    }
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=3),
        "timeout": timedelta(seconds=3 * seconds),
    }
    if config.s3_allow_http or os.environ.get("AWS_ALLOW_HTTP") == "true":
        client["allow_http"] = True
    retry: RetryConfig = {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=0.1),
            "max_backoff": timedelta(seconds=3),
            "base": 2,
        },
    }
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={name: value for name, value in chosen.items() if value},  # type: ignore[arg-type]
        client_options=client,
        retry_config=retry,
    )
