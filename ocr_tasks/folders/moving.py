"""Moves files without overwriting others."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def free_names(path: Path) -> Iterator[Path]:
    """Yields the path, then the path with -2, -3, … before its extension."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def publish(new: Path, target: Path) -> None:
    """Renames a file within a file system. Raises FileExistsError if the target exists."""
    try:
        os.link(new, target)  # atomic, unlike checking for the target before a rename
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        # Some network shares do not support hard links. An empty file reserves the name there.
        target.open("xb").close()
        try:
            new.replace(target)
        except OSError:
            with suppress(OSError):
                target.unlink()
            raise
    else:
        new.unlink()


def move(path: Path, target: Path) -> Path:
    """Moves a file to a free name, also across file systems. Returns the new path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for candidate in free_names(target):
        try:
            publish(path, candidate)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return _copy(path, target)
        return candidate
    raise AssertionError  # the loop is endless


def _copy(path: Path, target: Path) -> Path:
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copy2(path, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        moved = move(part, target)
    finally:
        part.unlink(missing_ok=True)
    path.unlink()
    return moved


def write_text_file(path: Path, text: str) -> None:
    """Writes a text to a file next to `path`, with `.txt` appended to its name."""
    path.with_name(f"{path.name}.txt").write_text(text, encoding="utf-8")
