"""A client for an S3 bucket. It transfers whole objects in chunks."""

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

#: Chunk size of downloads in bytes.
_CHUNK_BYTES = 256 * 1024

#: Part size of multipart uploads in bytes, and the numbers of concurrent parts per object and of
#: concurrent multipart uploads.
_PART_BYTES = 8 * 1024 * 1024
_CONCURRENT_PARTS = 2
_CONCURRENT_LARGE_UPLOADS = 2

#: Error codes of servers without free space: those of AWS and others, and HTTP status 507.
_FULL = ("QuotaExceeded", "StorageFull", "EntityTooLargeForQuota", "507 Insufficient Storage")

#: Name of the empty object that is written to check whether the bucket is writable.
_PROBE = ".probe"


@dataclass(frozen=True)
class ObjectInfo:
    """The metadata of an object."""

    name: str
    size: int
    etag: str
    changed: datetime


@contextmanager
def storage_errors() -> Iterator[None]:
    """Converts exceptions of the S3 client to StorageFull or StorageUnavailable."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise errors.StorageUnavailable("The bucket does not exist") from error
        raise
    except (BaseError, OSError) as error:
        text = str(error)
        if any(code in text for code in _FULL):
            raise errors.StorageFull() from error
        # The text is omitted, because it contains URLs and keys, and clients see this error.
        reason = type(error).__name__.removesuffix("Error")
        raise errors.StorageUnavailable(f"The bucket is not available: {reason}") from error


class Objects:
    """The objects of a bucket below a prefix."""

    def __init__(self, config: Settings) -> None:
        self._store = _connect(config, retries=5, seconds=20)
        #: With short timeouts, for requests while a client is waiting.
        self._quick = _connect(config, retries=1, seconds=3)
        self._large_uploads = threading.Semaphore(_CONCURRENT_LARGE_UPLOADS)

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        """Uploads an object. It appears atomically."""
        large = not isinstance(content, bytes) and os.fstat(content.fileno()).st_size > _PART_BYTES
        with self._large_uploads if large else nullcontext(), storage_errors():
            obstore.put(
                self._store,
                name,
                content,
                chunk_size=_PART_BYTES,
                max_concurrency=_CONCURRENT_PARTS,
            )

    def find(self, name: str) -> ObjectInfo | None:
        """Returns the metadata of an object, or None if it does not exist."""
        try:
            with storage_errors():
                return _object_info(obstore.head(self._store, name))
        except FileNotFoundError:
            return None

    def chunks(self, info: ObjectInfo, start: int, stop: int) -> Iterator[bytes]:
        """Yields the bytes of an object from `start` to `stop` (exclusive) in chunks.

        Resumes after a lost connection, which happens if the reader is slow.
        """
        position = start
        while position < stop:
            attempt_start = position
            try:
                for chunk in self._stream(info, position, stop):
                    yield chunk
                    position += len(chunk)
            except errors.StorageUnavailable:
                if position == attempt_start:
                    raise

    def _stream(self, info: ObjectInfo, start: int, stop: int) -> Iterator[bytes]:
        try:
            with storage_errors():
                result = obstore.get(self._store, info.name, options={"range": (start, stop)})
                if _unquote(result.meta["e_tag"]) != info.etag:
                    raise errors.StorageUnavailable("The object was replaced during the transfer")
                for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
                    yield bytes(chunk)
        except FileNotFoundError:
            raise errors.StorageUnavailable("The object was deleted during the transfer") from None

    def get(self, info: ObjectInfo, file: BinaryIO) -> None:
        """Downloads an object into a file."""
        for chunk in self.chunks(info, 0, info.size):
            file.write(chunk)

    def read(self, name: str) -> bytes | None:
        """Returns the content of a small object in one request, or None if it does not exist."""
        try:
            with storage_errors():
                return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None

    def below(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yields the metadata of all objects below a prefix."""
        with storage_errors():
            for rows in obstore.list(self._store, prefix):
                yield from map(_object_info, rows)

    def folders(self, prefix: str) -> list[str]:
        """Returns the names of the folders directly below a prefix."""
        with storage_errors():
            paths = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return [path.rpartition("/")[2] for path in paths]

    def delete(self, names: Sequence[str]) -> None:
        """Deletes objects. Missing ones are ignored."""
        if names:
            with storage_errors(), suppress(FileNotFoundError):
                obstore.delete(self._store, list(names))

    def probe(self) -> None:
        """Raises StorageFull or StorageUnavailable if the bucket is not writable."""
        try:
            with storage_errors():
                obstore.put(self._quick, _PROBE, b"", use_multipart=False)
        except FileNotFoundError:
            raise errors.StorageUnavailable("The bucket does not exist") from None


def _object_info(meta: Any) -> ObjectInfo:
    changed = meta["last_modified"] or datetime.fromtimestamp(0, UTC)
    return ObjectInfo(meta["path"], meta["size"], _unquote(meta["e_tag"]), changed)


def _unquote(etag: str | None) -> str:
    return (etag or "").strip('"')


def _connect(config: Settings, retries: int, seconds: int) -> S3Store:
    bucket, prefix = config.bucket
    options = {
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
        config={name: value for name, value in options.items() if value},  # type: ignore[arg-type]
        client_options=client,
        retry_config=retry,
    )
