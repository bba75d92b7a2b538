"""Finds and kills programs that outlived the worker that had started them.

A worker that is killed takes its children with it, as the kernel tells them (PR_SET_PDEATHSIG), but
not the programs that these have started, such as Ghostscript. Such a program carries the name of
its worker in its environment, so that any other worker on the same host recognises it.
"""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

#: Variable that a worker gives to the programs started under it: `<process id> <start time>`.
MARK = "OCR_TASKS_STARTED_BY"


def mark() -> None:
    """Has all programs that are started from now on carry the name of this process."""
    os.environ[MARK] = _name(psutil.Process())


def kill() -> list[str]:
    """Kills the programs whose worker is gone; gives their names."""
    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            worker = process.environ().get(MARK)
            if worker and not _lives(worker):
                name = process.name()
                process.kill()
                killed.append(name)
    return killed


def _lives(name: str) -> bool:
    pid, _, _ = name.partition(" ")
    try:
        return _name(psutil.Process(int(pid))) == name
    except (psutil.Error, ValueError):
        return False


def _name(process: psutil.Process) -> str:
    return f"{process.pid} {process.create_time()}"
