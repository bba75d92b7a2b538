"""Appends chunks to a resumable upload; see `tus`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from ocr_tasks import errors, settings
from ocr_tasks.storage import atomic, layout
from ocr_tasks.uploads import tus

#: Checksum algorithms, by their names in the tus protocol.
CHECKSUMS = ("sha1", "sha256", "sha512")

#: Number of bytes after which received data is synced to disk.
_SYNC_BYTES = 32 * settings.MIB


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected checksum of a chunk."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Parses an Upload-Checksum header."""
        algorithm, _, encoded = text.partition(" ")
        if algorithm not in CHECKSUMS:
            known = ", ".join(CHECKSUMS)
            raise errors.MalformedRequest(
                f"The checksum algorithm {algorithm[:50]!r} is not one of {known}"
            )
        try:
            return cls(algorithm, base64.b64decode(encoded, validate=True))
        except binascii.Error:
            raise errors.MalformedRequest("The checksum is not valid Base64") from None


class Writer:
    """Appends the body of one request to an upload."""

    def __init__(self, upload: tus.ResumableUpload, checksum: Checksum | None) -> None:
        self._upload = upload
        self._checksum = checksum
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._file = upload.content.open("ab", buffering=0)
        self._wanted = upload.file("wanted")
        self._last_check = 0.0
        self._unsynced = 0
        self._written = 0

    def is_wanted(self) -> bool:
        """Returns whether another request is waiting, so this one must stop."""
        if time.monotonic() < self._last_check + tus.LOOK:
            return False
        self._last_check = time.monotonic()
        return self._wanted.exists()

    def write(self, data: bytes) -> None:
        """Appends bytes to the upload."""
        most = self._upload.most
        if self._upload.offset + self._written + len(data) > most:
            raise errors.UploadTooLarge(
                f"The upload is larger than its length of {most} bytes", limit=most
            )
        if self._hash:
            self._hash.update(data)
        view = memoryview(data)
        with layout.storage_errors():
            while view:
                count = self._file.write(view) or 0
                view = view[count:]
                self._written += count
                self._unsynced += count
            if self._unsynced >= _SYNC_BYTES:
                self.sync()

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        """Raises ChecksumMismatch if the chunk does not match its checksum."""
        if self._hash and self._checksum and self._hash.digest() != self._checksum.digest:
            raise errors.ChecksumMismatch()


@contextmanager
def writing(
    upload_id: str,
    sees: str | None,
    offset: int,
    size: int | None,
    length: int | None = None,
    checksum: Checksum | None = None,
) -> Iterator[Writer]:
    """Yields a writer that appends to an upload, starting at `offset`.

    `size` is the number of bytes of the request, None if unknown. `length` sets the length of an
    upload whose length was unknown. Written bytes are kept even if the request fails; a chunk with
    a checksum is kept only if it is complete and matches.
    """
    tus.read(upload_id, sees)
    with tus.locked(upload_id):
        upload = tus.read(upload_id, sees)
        _drop_unchecked(upload)
        if offset != upload.offset:
            detail = f"The upload has {upload.offset} bytes, but the chunk begins at {offset}"
            raise errors.OffsetMismatch(detail, offset=upload.offset)
        upload = _with_length(upload, length)
        if offset + (size or 0) > upload.most:
            raise errors.UploadTooLarge(
                f"The upload is larger than {upload.most} bytes", limit=upload.most
            )
        layout.check_space(size or 0)
        yield from _append_to(upload, checksum)


def _append_to(
    upload: tus.ResumableUpload, checksum: Checksum | None
) -> Generator[Writer, None, None]:
    unchecked = upload.file("unchecked")
    with layout.storage_errors():
        if checksum:
            atomic.write(unchecked, str(upload.offset).encode(), durable=True)
        writer = Writer(upload, checksum)
    try:
        yield writer
        writer.check()
    except BaseException:
        # Without a checksum, the bytes received before a lost connection are kept.
        with layout.storage_errors():
            writer.sync()
            writer.close()
            _drop_unchecked(upload)
        raise
    with layout.storage_errors():
        writer.sync()
        writer.close()
        if checksum:
            unchecked.unlink()
            atomic.fsync(unchecked.parent)


def _with_length(upload: tus.ResumableUpload, length: int | None) -> tus.ResumableUpload:
    if length is None or length == upload.length:
        return upload
    if upload.length is not None:
        raise errors.MalformedRequest("The length of an upload cannot be changed")
    limit = settings.get().max_upload_bytes
    if length > limit:
        raise errors.UploadTooLarge(f"The upload is larger than {limit} bytes", limit=limit)
    if length < upload.offset:
        raise errors.MalformedRequest(f"The upload already has {upload.offset} bytes")
    updated = replace(upload, length=length)
    with layout.storage_errors():
        tus.save(updated)
    return updated


def _drop_unchecked(upload: tus.ResumableUpload) -> None:
    """Truncates an upload by a chunk whose checksum has not been verified."""
    unchecked = upload.file("unchecked")
    with layout.storage_errors(), suppress(FileNotFoundError):
        os.truncate(upload.content, int(unchecked.read_text()))
        atomic.fsync(upload.content)
        unchecked.unlink()
