"""Programs that outlive the worker that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from ocr_tasks.sandbox import orphans

#: A worker that starts a program and waits to be killed. Its argument is the name of the variable.
WORKER = """
import subprocess, sys
from ocr_tasks.sandbox import orphans
orphans.MARK = sys.argv[1]
orphans.mark()
program = subprocess.Popen(["sleep", "600"])
print(program.pid, flush=True)
program.wait()
"""


@pytest.fixture(autouse=True)
def own_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses a variable of this test, because workers of other tests kill the orphans they find."""
    monkeypatch.setattr(orphans, "MARK", f"{orphans.MARK}_{os.getpid()}")


def test_only_programs_of_a_killed_worker_are_killed() -> None:
    command = [sys.executable, "-c", WORKER, orphans.MARK]
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


def test_a_changed_system_clock_creates_no_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(orphans.MARK, raising=False)
    orphans.mark()
    mark = os.environ[orphans.MARK]
    with subprocess.Popen(["sleep", "600"], env=os.environ | {orphans.MARK: mark}) as program:
        booted = psutil.boot_time()
        # psutil's start time, which the kernel derives from the clock.
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 5)
        assert orphans.kill() == []
        assert program.poll() is None
        program.kill()


def test_programs_of_containers_are_ignored() -> None:
    """The host sees them, but their process IDs refer to other processes here."""
    mark = "4194303 1@pid:[1]"
    with subprocess.Popen(["sleep", "600"], env=os.environ | {orphans.MARK: mark}) as program:
        assert orphans.kill() == []
        assert program.poll() is None
        program.kill()
