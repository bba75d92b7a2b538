"""What a process that reads documents may use, and what it may do.

Documents are made to be hostile: to take all memory, to fill the disk, to take over a parser. All
of this binds the calling process and every program that it starts, and cannot be undone. It belongs
at the start of a process, while that has one thread.
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

#: How much rather than others such a process is killed where memory runs out (man 5 proc).
_OOM_SCORE = 500

#: Variables that programs need, or that say where they find what they need. Others may be secrets.
_KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "TESSDATA_PREFIX", "OMP_THREAD_LIMIT", "LD_LIBRARY_PATH"}
)
_KEPT_FAMILIES = ("LC_", "PYTHON", "GS_", "FONTCONFIG_")

#: Where people and services keep what is theirs. All else at the root of the file system is system.
_PRIVATE = ("root", "home", "var", "tmp", "srv", "mnt", "media", "run", "boot", "dev")
#: What is needed in there: fonts, and the addresses of name servers.
_NEEDED = (
    *("/var/lib/ghostscript", "/var/cache/fontconfig", "/run/systemd/resolve"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)


def bound(memory_bytes: int, file_bytes: int) -> None:
    """Limits memory and the size of files, forbids core dumps and new privileges.

    Memory is what can be written (RLIMIT_DATA): unlike the address space it does not grow with
    threads that are idle and libraries that are only mapped.
    """
    for what, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    os.umask(0o077)
    landlock.give_up_privileges()
    _go_first()


def _go_first() -> None:
    """Where memory runs out, the kernel is to take this process rather than Redis."""
    score = Path("/proc/self/oom_score_adj")
    with suppress(OSError):  # some containers have it read-only
        if int(score.read_text()) < _OOM_SCORE:
            score.write_text(str(_OOM_SCORE))


def allow_cpu(seconds: float) -> None:
    """Ends this process once it has computed for so many seconds more, all threads together."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time() + seconds) + 1
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def forget_environment(kept: Collection[str] = ()) -> None:
    """Leaves to programs that are started only variables without secrets, and those named.

    The others are gone from `/proc/self/environ` as well.
    """
    names = [
        name
        for name in os.environ
        if name not in _KEPT and name not in kept and not name.startswith(_KEPT_FAMILIES)
    ]
    _blank({name.encode() for name in names})
    for name in names:
        del os.environ[name]
    os.environ["HOME"] = "/nonexistent"


def _blank(names: Collection[bytes]) -> None:
    """Overwrites the values of variables where the kernel shows them (man 7 environ)."""
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
    """Leaves some folders to write into, the system to read, and TCP ports to connect to.

    `private` is a folder of which nothing but what is `writable` may be read; `readable` are
    folders that may be read though they do not belong to the system. False: the kernel cannot do
    this.
    """
    if not landlock.landlock():
        return False
    hidden = {Path("/", name) for name in _PRIVATE} | {private.resolve()}
    system = [*_all_but(Path("/"), hidden), *map(Path, _NEEDED), *_programs()]
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
    bound(memory_bytes, file_bytes)
    allow_cpu(cpu_seconds)
    if confine_files:
        confine([folder], data_dir)


def _all_but(folder: Path, hidden: set[Path]) -> Iterator[Path]:
    """What is in a folder without what is hidden. Links are left out: what they lead to counts."""
    for path in folder.iterdir():
        if path in hidden or path.is_symlink():
            continue
        if any(other.is_relative_to(path) for other in hidden):
            yield from _all_but(path, hidden)
        else:
            yield path


def _programs() -> Iterator[Path]:
    """Where Python, what it loads, and the models of Tesseract lie."""
    models = os.environ.get("TESSDATA_PREFIX", sys.prefix)
    for place in (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), models, *sys.path):
        path = Path(place or ".").resolve()
        if path != Path("/"):  # what was started there does not make everything its own
            yield path


# A process that should not go on after its job

_worn_out: list[str] = []


def wear_out(why: str) -> None:
    """Has this process replaced after the job it is at."""
    if not _worn_out:
        log.warning("this process is replaced after its job: %s", why)
    _worn_out.append(why)


def worn_out() -> bool:
    """Whether this process is to be replaced."""
    return bool(_worn_out)
