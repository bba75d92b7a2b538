"""Writes files that appear whole or not at all: under a hidden name, which is then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a hidden path in the same folder, whose file replaces `path` at the end of the block.

    After an error, `path` is as it was. `durable`: the file and its name survive a loss of power.
    """
    part = _hidden(path)
    try:
        yield part
        if durable:
            fsync(part)
        part.replace(path)
        if durable:
            fsync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Writes a file; see `replacing`."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(content)


def create(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Creates a file and its folders; one that exists, or that another process creates, stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _hidden(path)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Syncs a file, or the names in a folder, to disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")
