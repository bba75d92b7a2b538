"""Programs that outlive the worker that had started them."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil

from ocr_tasks import orphans

#: A worker that starts a program and waits to be killed.
WORKER = """
import subprocess, sys
from ocr_tasks import orphans
orphans.mark()
program = subprocess.Popen(["sleep", "600"])
print(program.pid, flush=True)
program.wait()
"""


def test_what_a_killed_worker_left_running_is_killed_and_nothing_else() -> None:
    command = [sys.executable, "-c", WORKER]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as living,
        subprocess.Popen(command, stdout=subprocess.PIPE) as lost,
    ):
        assert living.stdout is not None
        assert lost.stdout is not None
        kept, orphan = (psutil.Process(int(w.stdout.readline())) for w in (living, lost))  # type: ignore[union-attr]
        lost.send_signal(signal.SIGKILL)
        lost.wait()
        assert orphan.is_running()

        killed = orphans.kill()

        assert killed == ["sleep"]
        psutil.wait_procs([orphan], timeout=10)
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert kept.is_running()
        assert orphans.kill() == []
        for process in (living, kept):
            process.kill()
