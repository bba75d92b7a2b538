"""A disk that tests can fill, or make read-only."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024

_SOURCE = Path(__file__).parent / "plugins" / "small_disk.c"


class SmallDisk(ABC):
    """A disk of 32 MiB; `environment` is for the processes that use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment: dict[str, str] = {}

    @abstractmethod
    def leave(self, size: int) -> None:
        """Uses all space except this many bytes."""

    @abstractmethod
    def leave_files(self, count: int) -> None:
        """Lets only this many more files be created."""

    @abstractmethod
    def forbid_writing(self) -> None:
        """Makes it read-only."""

    @abstractmethod
    def clear(self) -> None:
        """Restores its original state."""


class Mounted(SmallDisk):
    """A real file system, if this machine lets tests mount one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._ballast = path / "ballast"
        self._files = path / "files"
        self._read_only = False

    def leave(self, size: int) -> None:
        self._ballast.unlink(missing_ok=True)
        free = shutil.disk_usage(self.path).free
        self._ballast.write_bytes(b"\0" * (free - size))

    def leave_files(self, count: int) -> None:
        self._files.mkdir(exist_ok=True)
        number = len(list(self._files.iterdir()))
        with contextlib.suppress(OSError):
            while True:
                (self._files / str(number)).touch()
                number += 1
        for file in list(self._files.iterdir())[:count]:
            file.unlink()

    def forbid_writing(self) -> None:
        # A second mount of the same files, because a mount with files open for writing cannot be
        # made read-only.
        subprocess.run(["mount", "--bind", self.path, self.path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", self.path], check=True)
        self._read_only = True

    def clear(self) -> None:
        if self._read_only:
            # Lazily, because a process may still read a file.
            subprocess.run(["umount", "--lazy", self.path], check=True)
            self._read_only = False
        self._ballast.unlink(missing_ok=True)
        shutil.rmtree(self._files, ignore_errors=True)


class Pretended(SmallDisk):
    """A folder for which a preloaded library (small_disk.c) simulates such a disk."""

    def __init__(self, path: Path, folder: Path) -> None:
        super().__init__(path)
        library = folder / "small_disk.so"
        command = ["cc", "-O1", "-fPIC", "-shared", "-o", library, _SOURCE, "-ldl"]
        subprocess.run(command, check=True)
        self._limits = folder / "limits"
        self.clear()
        self.environment = {
            "LD_PRELOAD": str(library),
            "SMALL_DISK": str(path),
            "SMALL_DISK_LIMITS": str(self._limits),
        }

    def leave(self, size: int) -> None:
        self._write(size=size)

    def leave_files(self, count: int) -> None:
        self._write(files=count)

    def forbid_writing(self) -> None:
        self._write(read_only=True)

    def clear(self) -> None:
        self._write()

    def _write(self, size: int = 32 * MIB, files: int = 1000, read_only: bool = False) -> None:
        content = struct.pack("qqq", size, files, read_only)
        # In place, because the processes have mapped the file.
        with self._limits.open("r+b" if self._limits.exists() else "wb") as file:
            file.write(content)


@contextlib.contextmanager
def small_disk(folder: Path, pretend: bool = False) -> Iterator[SmallDisk]:
    """Creates a disk of 32 MiB and a thousand files: a real one, if a test may mount it."""
    path = folder / "disk"
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=1000", "tmpfs", path]
    if pretend or not _succeeds(command):
        yield Pretended(path, folder)
        return
    disk = Mounted(path)
    try:
        yield disk
    finally:
        disk.clear()
        subprocess.run(["umount", "-l", path], check=True)


def _succeeds(command: list[str | Path]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
