"""A result on its way into a file: goes on after a lost connection, and is checked at the end."""

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
    """What has arrived of a result so far, in a file from where that stood."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell() if file.seekable() else None
        self._begin(0, None, "")
        self.moved = False

    def headers(self) -> dict[str, str]:
        """What to ask for: all, or, of the same file, what has not come yet (RFC 9110, 14)."""
        wanted = {"Accept-Encoding": "identity"}
        if self._received and self._etag:
            wanted |= {"Range": f"bytes={self._received}-", "If-Range": self._etag}
        return wanted

    def begins(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether the body of an answer is what was asked for, rather than a reason.

        Raises:
            TransferError: if it is another part, or cannot follow on what has arrived.
        """
        if status not in (200, 206):
            return False
        etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
        if status == 206:
            part = _RANGE.fullmatch(headers.get("Content-Range", ""))
            if not part or int(part[1]) != self._received:
                raise TransferError("the server sent another part of the file than was asked for")
            self._size = int(part[2]) if part[2] != "*" else None
        else:
            self._rewind()
            self._begin(0, int(length) if length.isdecimal() else None, etag)
        return True

    def write(self, piece: bytes) -> None:
        """Takes the next bytes.

        Raises:
            OSError
        """
        self._file.write(piece)
        self._hash.update(piece)
        self._received += len(piece)
        self.moved = True

    def check(self) -> None:
        """Looks whether all has arrived as it is on the server.

        Raises:
            TransferError
        """
        if self._size not in (None, self._received):
            raise TransferError(f"{self._received} bytes have arrived instead of {self._size}")
        sha256 = _SHA256.fullmatch(self._etag)
        if sha256 and sha256[1] != self._hash.hexdigest():
            raise TransferError("what has arrived does not have the SHA-256 that the server names")

    def _begin(self, received: int, size: int | None, etag: str) -> None:
        self._received, self._size, self._etag = received, size, etag
        self._hash = hashlib.sha256()

    def _rewind(self) -> None:
        if not self._received:
            return
        if self._start is None:
            raise TransferError("the result has changed on the server meanwhile")
        self._file.seek(self._start)
        self._file.truncate()


@contextmanager
def receiving(target: str | Path | BinaryIO) -> Iterator[Transfer]:
    """A transfer into a file; one that is named by its path appears whole or not at all.

    Raises:
        OSError
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
