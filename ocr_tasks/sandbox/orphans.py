"""Finds and kills programs that outlived the worker that started them.

If a worker is killed, the kernel kills its children (PR_SET_PDEATHSIG), but not the programs that
these have started, e.g. Ghostscript. The environment of such a program contains an identifier of
its worker, so any other worker on the same host can recognize and kill it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

#: Environment variable that identifies the worker: `<process id> <start time>@<PID namespace>`.
MARK = "OCR_TASKS_STARTED_BY"


def mark() -> None:
    """Sets the environment variable, which all programs started later inherit."""
    os.environ[MARK] = _identifier(os.getpid())


def kill() -> list[str]:
    """Kills the programs whose worker has ended, and returns their names."""
    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            worker = process.environ().get(MARK)
            if worker and _has_ended(worker):
                name = process.name()
                process.kill()
                killed.append(name)
    return killed


def _has_ended(worker: str) -> bool:
    """Returns whether a worker has ended. False if it is in another PID namespace (a container)."""
    pid, _, namespace = worker.partition("@")
    if namespace != _namespace():
        return False
    try:
        return _identifier(int(pid.partition(" ")[0])) != worker
    except (OSError, ValueError):
        return True


def _identifier(pid: int) -> str:
    """Returns the process id, the start time and the PID namespace of a process.

    The start time is in clock ticks since boot (proc(5), field 22). psutil's start time is in wall
    time, which changes when the clock is set.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    return f"{pid} {stat.rpartition(')')[2].split()[19]}@{_namespace()}"


def _namespace() -> str:
    """Returns the PID namespace (pid_namespaces(7)). A host also sees processes of containers."""
    return str(Path("/proc/self/ns/pid").readlink())
