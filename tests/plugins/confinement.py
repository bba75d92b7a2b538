"""What code of an attacker would try in a process that parses documents."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from ocr_tasks import settings

#: A file next to the data folder, which the process must not be able to open.
CANARY = "canary.txt"
SECRET = "canary-of-the-operator"


def tried(folder: Path) -> dict[str, str]:
    """Returns the result of each attempt: its output, or the name of the error.

    `folder` is the folder of the job.
    """
    config = settings.get()
    outside = config.data_dir.parent
    parent = os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "read a file outside": lambda: (outside / CANARY).read_text(),
        "write a file outside": lambda: (outside / "written").write_text("x"),
        "write beside the jobs": lambda: (config.data_dir / "written").write_text("x"),
        "write to /tmp": lambda: Path("/tmp/ocr-tasks-canary").write_text("x"),
        "read the files of Redis": lambda: list((config.data_dir / "redis").iterdir()),
        "connect to the web server": lambda: _connect(config.port),
        "listen": _listen,
        "signal the worker": lambda: os.kill(parent, 0),
        "read the worker's environment": lambda: Path(f"/proc/{parent}/environ").read_text(),
        "run what it wrote": lambda: _run_own(folder),
        "read a file outside with a program": lambda: _said("cat", str(outside / CANARY)),
        "environment of programs": lambda: _said("env"),
        "privileges": lambda: Path("/proc/self/status").read_text(),
        "limits": lambda: Path("/proc/self/limits").read_text(),
        "oom score": lambda: Path("/proc/self/oom_score_adj").read_text(),
        "write into the job": lambda: (folder / "own").write_text("x"),
        "mode of what it wrote": lambda: oct((folder / "own").stat().st_mode & 0o777),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        return str(attempt())
    except (OSError, subprocess.CalledProcessError) as error:
        return type(error).__name__


def _connect(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return "connected"


def _listen() -> str:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return "bound"


def _run_own(folder: Path) -> str:
    program = folder / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o700)
    return _said(str(program))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
