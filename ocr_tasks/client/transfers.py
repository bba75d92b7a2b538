"""Downloads of results, which resume after a lost connection and are verified at the end."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ocr_tasks.client.problems import TransferError

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SHA256 = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


class Transfer:
    """A download into an open file, starting at the file's current position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = file.tell() if file.seekable() else None
        self._reset(0, None, "")
        self.progressed = False

    def headers(self) -> dict[str, str]:
        """Returns request headers for the whole file, or for the missing part (RFC 9110, 14)."""
        headers = {"Accept-Encoding": "identity"}
        if self._received and self._etag:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        return headers

    def accept(self, status: int, headers: Mapping[str, str]) -> bool:
        """Starts receiving a response. Returns False if it is not a response with file contents.

        Raises:
            TransferError: if it contains another range than was requested, or the whole file again
                and the target is not seekable.
            OSError: if the target cannot be truncated.
        """
        if status not in (200, 206):
            return False
        etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
        if status == 206:
            part = _RANGE.fullmatch(headers.get("Content-Range", ""))
            if not part or int(part[1]) != self._received:
                raise TransferError("the server sent another byte range than was requested")
            self._size = int(part[2]) if part[2] != "*" else None
        else:
            self._rewind()
            self._reset(0, int(length) if length.isdecimal() else None, etag)
        return True

    def write(self, chunk: bytes) -> None:
        """Appends received bytes to the file.

        Raises:
            OSError: if the file cannot be written.
        """
        self._file.write(chunk)
        self._hash.update(chunk)
        self._received += len(chunk)
        self.progressed = True

    def check(self) -> None:
        """Verifies the size and the SHA-256 of the download.

        Raises:
            TransferError: if they differ from the server's.
        """
        if self._size not in (None, self._received):
            raise TransferError(f"received {self._received} bytes instead of {self._size}")
        sha256 = _SHA256.fullmatch(self._etag)
        if sha256 and sha256[1] != self._hash.hexdigest():
            raise TransferError("the SHA-256 of the download differs from the server's")

    def _reset(self, received: int, size: int | None, etag: str) -> None:
        self._received, self._size, self._etag = received, size, etag
        self._hash = hashlib.sha256()

    def _rewind(self) -> None:
        if not self._received:
            return
        if self._offset is None:
            raise TransferError("the result changed on the server during the download")
        self._file.seek(self._offset)
        self._file.truncate()


@contextmanager
def open_transfer(target: str | Path | BinaryIO) -> Iterator[Transfer]:
    """Yields a transfer into a file. A target given as a path is replaced atomically at the end.

    Raises:
        OSError: if the target cannot be written.
    """
    if not isinstance(target, str | Path):
        yield Transfer(target)
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield Transfer(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
