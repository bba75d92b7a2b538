"""ZIP files that are written as they are sent: nothing is held but the piece on its way."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A file to be packed. `size` is its bytes, `changed` seconds since the epoch.

    With `packed` it is deflated; what is compressed already is stored as it is.
    """

    name: str
    size: int
    changed: float
    packed: bool
    pieces: Iterable[bytes]


def stream(members: Iterable[Member]) -> Iterator[bytes]:
    """A ZIP file of these files, a piece at a time; each is read when its turn comes."""
    sink = Sink()
    with zipfile.ZipFile(sink, "w") as target:
        for member in members:
            info = zipfile.ZipInfo(member.name, time.gmtime(max(member.changed, _OLDEST))[:6])
            info.compress_type = zipfile.ZIP_DEFLATED if member.packed else zipfile.ZIP_STORED
            info.external_attr = 0o644 << 16
            # Sizes stand behind a file that is written to a pipe, in a width told before it.
            with target.open(info, "w", force_zip64=member.size >= 1 << 31) as file:
                for piece in member.pieces:
                    file.write(piece)
                    yield sink.taken()
    yield sink.taken()


#: 1980, before which a ZIP file knows no time.
_OLDEST = 315_532_800.0


class Sink(io.RawIOBase):
    """Takes what `zipfile` writes, which then writes as to a pipe: without going back."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def write(self, piece: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Keeps a copy of the piece."""
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        """What was written since this was last asked."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
