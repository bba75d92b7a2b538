"""Moves files without ever writing over another one."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def free_names(path: Path) -> Iterator[Path]:
    """The path, and then the same with -2, -3, … before its ending."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def publish(new: Path, target: Path) -> None:
    """Gives a file another name in the same file system."""
    try:
        os.link(new, target)  # what no other program can come in between
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        # Some shares know no links. Then the name is claimed by an empty file.
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
    """Moves a file, also to another file system, and gives where it is: a free name."""
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
    raise AssertionError  # there is always one more name


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


def write_beside(path: Path, text: str) -> None:
    """Writes a text to a file of the same name and `.txt`."""
    path.with_name(f"{path.name}.txt").write_text(text, encoding="utf-8")
