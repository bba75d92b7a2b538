"""Resource limits and the sandbox of processes that open untrusted documents.

A malicious document may try to use up the memory or the disk, or to take over a parser. All
restrictions apply to the calling process and every program that it starts, and cannot be undone.
They must be set at the start of a process, while it has only one thread.
"""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import resource
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ocr_tasks.sandbox import landlock

log = logging.getLogger(__name__)

#: Increase of the probability that the OOM killer selects such a process (proc(5)).
_OOM_SCORE = 500

#: Environment variables that programs need. Others may be secrets.
_KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TESSDATA_PREFIX", "OMP_THREAD_LIMIT", "LD_LIBRARY_PATH"}
)
_KEPT_PREFIXES = ("LC_", "PYTHON", "GS_", "FONTCONFIG_")

#: Folders with data of users and services. Other folders in the root folder belong to the system.
_PRIVATE = ("root", "home", "var", "tmp", "srv", "mnt", "media", "run", "boot", "dev")
#: Required paths within these folders: fonts, the configuration of name servers, and devices.
_REQUIRED = (
    *("/var/lib/ghostscript", "/var/cache/fontconfig", "/run/systemd/resolve"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Limits memory and the size of files, and forbids core dumps and new privileges.

    The memory limit is RLIMIT_DATA, which counts writable memory. Unlike the address space, it does
    not include the stacks of idle threads and mapped libraries.
    """
    for limit, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    os.umask(0o077)
    landlock.drop_privileges()
    _raise_oom_score()


def _raise_oom_score() -> None:
    """Makes the OOM killer select this process rather than Redis."""
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError):  # read-only in some containers
        if int(score.read_text()) < _OOM_SCORE:
            score.write_text(str(_OOM_SCORE))


def allow_cpu(seconds: float) -> None:
    """Limits the further CPU time of this process, in seconds for all threads together."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time() + seconds) + 1
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def clear_environment(kept: Collection[str] = ()) -> None:
    """Removes all environment variables that may be secrets, except for those in `kept`.

    Also removes their values from `/proc/self/environ`.
    """
    names = [
        name
        for name in os.environ
        if name not in _KEPT and name not in kept and not name.startswith(_KEPT_PREFIXES)
    ]
    _blank({name.encode() for name in names})
    for name in names:
        del os.environ[name]
    os.environ["HOME"] = "/nonexistent"


def _blank(names: Collection[bytes]) -> None:
    """Overwrites the values of variables in the memory that /proc/self/environ shows."""
    rows = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    for number in itertools.count():
        address = rows[number]
        if not address:
            return
        name, _, value = ctypes.string_at(address).partition(b"=")
        if name in names:
            ctypes.memset(address + len(name) + 1, 0, len(value))


def confine(
    writable: Sequence[Path],
    private: Path,
    ports: Iterable[int] = (),
    readable: Iterable[Path] = (),
) -> bool:
    """Restricts this process to writable folders, read access to the system, and TCP ports.

    Nothing in `private` can be read, except for what is `writable`. `readable` are additional
    folders that can be read. Returns False if the kernel does not support Landlock.
    """
    if not landlock.landlock():
        return False
    hidden = {Path("/", name) for name in _PRIVATE} | {private.resolve()}
    system = [*_all_but(Path("/"), hidden), *map(Path, _REQUIRED), *_programs()]
    landlock.restrict([*system, *readable], [*writable, Path("/dev/null")], ports)
    return True


def sandbox(
    folder: Path,
    data_dir: Path,
    *,
    confine_files: bool,
    cpu_seconds: int,
    memory_bytes: int,
    file_bytes: int,
) -> None:
    """Limits this process for good to what checking an upload needs: one folder of `data_dir`."""
    limit(memory_bytes, file_bytes)
    allow_cpu(cpu_seconds)
    if confine_files:
        confine([folder], data_dir)


def _all_but(folder: Path, hidden: set[Path]) -> Iterator[Path]:
    """Yields the paths in a folder, except for hidden ones and symbolic links.

    Landlock checks the target of a link, so links need no rule.
    """
    for path in folder.iterdir():
        if path in hidden or path.is_symlink():
            continue
        if any(other.is_relative_to(path) for other in hidden):
            yield from _all_but(path, hidden)
        else:
            yield path


def _programs() -> Iterator[Path]:
    """Yields the folders of Python, its packages and Tesseract's models."""
    models = os.environ.get("TESSDATA_PREFIX", sys.prefix)
    for folder in (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), models, *sys.path):
        path = Path(folder or ".").resolve()
        if path != Path("/"):  # starting Python in / must not make everything readable
            yield path


# Processes that are replaced after their job

_reasons: list[str] = []


def mark_for_replacement(why: str) -> None:
    """Marks this process to be replaced after its current job."""
    if not _reasons:
        log.warning("this process will be replaced after its job: %s", why)
    _reasons.append(why)


def needs_replacement() -> bool:
    """Returns whether this process is marked to be replaced."""
    return bool(_reasons)
