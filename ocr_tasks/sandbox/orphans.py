"""Finds and kills programs that outlived the worker that had started them.

A worker that is killed takes its children with it, as the kernel tells them (PR_SET_PDEATHSIG), but
not the programs that these have started, such as Ghostscript. Such a program carries the name of
its worker in its environment, so that any other worker on the same host recognises it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

#: Variable that a worker gives to the programs that it starts: `<process id> <start>@<namespace>`.
MARK = "OCR_TASKS_STARTED_BY"


def mark() -> None:
    """Has all programs that are started from now on carry the name of this process."""
    os.environ[MARK] = _name(os.getpid())


def kill() -> list[str]:
    """Kills the programs whose worker is gone; gives their names."""
    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            worker = process.environ().get(MARK)
            if worker and _gone(worker):
                name = process.name()
                process.kill()
                killed.append(name)
    return killed


def _gone(name: str) -> bool:
    """Whether the worker of that name has ended; one in a container is not for us to judge."""
    pid, _, place = name.partition("@")
    if place != _place():
        return False
    try:
        return _name(int(pid.partition(" ")[0])) != name
    except (OSError, ValueError):
        return True


def _name(pid: int) -> str:
    """The id of a process, its start, and where that id means it.

    The start is in clock ticks since the host's (proc(5), field 22), and not in seconds of the day,
    as psutil has it: those of all processes change when the clock is set.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    return f"{pid} {stat.rpartition(')')[2].split()[19]}@{_place()}"


def _place() -> str:
    """The namespace of process ids (pid_namespaces(7)): a host sees the processes of containers."""
    return str(Path("/proc/self/ns/pid").readlink())
