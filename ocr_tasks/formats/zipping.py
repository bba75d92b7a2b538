"""ZIP files that are created while they are sent, with one chunk in memory at a time."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A file to add to a ZIP file. `size` is in bytes, `changed` in seconds since the epoch.

    `packed` says whether to compress it, which is of no use for compressed formats. `chunks` are
    the chunks of its content.
    """

    name: str
    size: int
    changed: float
    packed: bool
    chunks: Iterable[bytes]


def stream(members: Iterable[Member]) -> Iterator[bytes]:
    """Yields a ZIP file chunk by chunk. Each member is read only when it is added."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w") as target:
        for member in members:
            info = zipfile.ZipInfo(member.name, time.gmtime(max(member.changed, _OLDEST))[:6])
            info.compress_type = zipfile.ZIP_DEFLATED if member.packed else zipfile.ZIP_STORED
            info.external_attr = 0o644 << 16
            # Without seeking, sizes are written after the content, but whether they have 32 or 64
            # bits is decided before it.
            with target.open(info, "w", force_zip64=member.size >= 1 << 31) as file:
                for chunk in member.chunks:
                    file.write(chunk)
                    yield sink.taken()
    yield sink.taken()


#: 1980, the earliest time that ZIP can store.
_OLDEST = 315_532_800.0


class Sink(io.RawIOBase):
    """A file object that collects what `zipfile` writes. It is not seekable."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Stores a copy of the chunk."""
        self._chunks.append(bytes(chunk))
        return len(self._chunks[-1])

    def taken(self) -> bytes:
        """Returns and removes the data written since the last call."""
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)
