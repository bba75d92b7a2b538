"""ZIP files that are streamed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest

from ocr_tasks.formats import zipping


def member(
    name: str, *chunks: bytes, packed: bool = False, changed: float = 1.7e9
) -> zipping.Member:
    return zipping.Member(name, sum(map(len, chunks)), changed, packed, chunks)


def opened(members: list[zipping.Member]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(zipping.stream(members))))


def test_members_are_extracted_as_they_were_added() -> None:
    members = [
        member("Übersicht.pdf", b"%PDF-", b"1.7"),
        member("a.txt", b"word " * 1000, packed=True),
        member("empty.txt"),
        member("old.txt", b"x", changed=0),
    ]
    packed = opened(members)

    assert packed.testzip() is None
    assert packed.namelist() == ["Übersicht.pdf", "a.txt", "empty.txt", "old.txt"]
    assert packed.read("Übersicht.pdf") == b"%PDF-1.7"
    assert packed.read("a.txt") == b"word " * 1000
    assert packed.getinfo("Übersicht.pdf").compress_type == zipfile.ZIP_STORED
    assert packed.getinfo("a.txt").compress_size < 500
    assert packed.getinfo("old.txt").date_time == (1980, 1, 1, 0, 0, 0)


def test_only_one_chunk_is_in_memory() -> None:
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(50):
            asked += 1
            yield b"x" * 100_000

    sent = 0
    for piece in zipping.stream([zipping.Member("a", 5_000_000, 1.7e9, False, chunks())]):
        sent += len(piece)
        assert sent > (asked - 1) * 100_000
        assert len(piece) < 200_000
    assert asked == 50


def test_a_file_that_fails_while_it_is_streamed_breaks_the_zip() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * 10
        raise OSError("the disk is gone")

    stream = zipping.stream([zipping.Member("a", 20, 1.7e9, False, chunks())])
    next(stream)

    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_a_file_of_four_gigabytes_is_written_as_zip64() -> None:
    """The size is only declared, which avoids writing four gigabytes."""
    small, large = (b"".join(zipping.stream([zipping.Member("a", size, 1.7e9, False, [b"x"])]))
                    for size in (1, 5 << 30))  # fmt: skip

    assert len(large) > len(small)
    assert zipfile.ZipFile(io.BytesIO(large)).read("a") == b"x"
