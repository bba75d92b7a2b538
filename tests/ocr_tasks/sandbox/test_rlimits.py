"""Resource limits; each is tested in a process of its own, because limits are permanent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocr_tasks.sandbox import rlimits

MIB = 1 << 20


def ran(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of a few lines until it ends."""
    return subprocess.run(
        [sys.executable, "-c", "from ocr_tasks.sandbox import rlimits\n" + program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said(program: str, **environment: str) -> Any:
    done = ran(program, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_is_limited() -> None:
    program = f"rlimits.limit({512 * MIB}, {MIB})\n"

    assert said(program + f"print(len(bytearray({100 * MIB})))") == 100 * MIB
    assert "MemoryError" in ran(program + f"bytearray({600 * MIB})").stderr


def test_idle_threads_and_mapped_files_do_not_count_as_memory() -> None:
    """For this reason, the address space is not limited: each thread reserves 64 MiB of it."""
    program = (
        "import threading, mmap, os\n"
        f"rlimits.limit({512 * MIB}, {MIB})\n"
        "gate = threading.Event()\n"
        "def work(): bytearray(1000); gate.wait()\n"
        "threads = [threading.Thread(target=work) for _ in range(30)]\n"
        "for thread in threads: thread.start()\n"
        "file = os.memfd_create('x'); os.truncate(file, 1 << 20)\n"
        "maps = [mmap.mmap(file, 1 << 20, prot=mmap.PROT_READ) for _ in range(1000)]\n"
        "gate.set()\n"
        "print(len(maps))\n"
    )
    assert said(program) == 1000


def test_file_sizes_are_limited(tmp_path: Path) -> None:
    program = f"rlimits.limit({512 * MIB}, {MIB})\nopen('x', 'wb').truncate({2 * MIB})"
    done = ran(f"import os; os.chdir({str(tmp_path)!r})\n{program}")

    assert "File too large" in done.stderr
    assert (tmp_path / "x").stat().st_size == 0
    assert (tmp_path / "x").stat().st_mode & 0o077 == 0


def test_lower_limits_of_the_system_are_kept() -> None:
    program = (
        "import json, resource as r\n"
        f"r.setrlimit(r.RLIMIT_FSIZE, ({MIB}, {MIB}))\n"
        f"rlimits.limit({512 * MIB}, {9 * MIB})\n"
        "print(r.getrlimit(r.RLIMIT_FSIZE)[0])"
    )
    assert said(program) == MIB


def test_a_process_that_exceeds_its_cpu_time_is_ended() -> None:
    assert ran("rlimits.allow_cpu(0)\nwhile True: pass").returncode == -signal.SIGXCPU


def test_cpu_time_is_counted_per_job() -> None:
    """The kernel counts the time of the limit by ticks, so each job leaves half of its time."""
    program = (
        "import time\n"
        "for job in range(4):\n"
        "    rlimits.allow_cpu(2)\n"
        "    began = time.process_time()\n"
        "    while time.process_time() < began + 1: pass\n"
        "print('\"four jobs\"')"
    )
    assert said(program) == "four jobs"


def test_programs_get_no_secrets() -> None:
    program = (
        "import json, subprocess\n"
        "rlimits.clear_environment({'OWN'})\n"
        "shown = open('/proc/self/environ').read()\n"
        "assert 'OWN=own' in shown and 'secret' not in shown, shown\n"
        "print(json.dumps(subprocess.check_output('env', text=True).splitlines()))"
    )
    lines = said(
        program,
        OWN="own",
        OCR_REDIS_URL="redis://:secret@x",
        AWS_SECRET="secret",
        LC_ALL="C",
        TESSDATA_PREFIX="/models",
        HOME="/root",
    )

    assert not [line for line in lines if "secret" in line]
    assert {"OWN=own", "LC_ALL=C", "TESSDATA_PREFIX=/models", "HOME=/nonexistent"} <= set(lines)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Creates a data folder with a job's folder, and another folder next to it."""
    made = {"data": tmp_path / "data", "own": tmp_path / "data" / "own", "other": tmp_path / "x"}
    for path in made.values():
        path.mkdir()
        (path / "file").write_text("text")
    return made


def test_only_one_folder_is_writable(folders: dict[str, Path]) -> None:
    program = (
        "import json, os, pathlib, subprocess, tempfile\n"
        "data, own, other = (pathlib.Path(os.environ[name]) for name in ('DATA', 'OWN', 'OTHER'))\n"
        f"rlimits.limit({512 * MIB}, {MIB})\n"
        "assert rlimits.confine([own], data)\n"
        "def outcome(task):\n"
        "    try: task()\n"
        "    except OSError as error: return type(error).__name__\n"
        "    return 'done'\n"
        "folder = own / 'folder'\n"
        "print(json.dumps([outcome(task) for task in (\n"
        "    lambda: (data / 'file').read_text(), lambda: (other / 'file').read_text(),\n"
        "    lambda: (data / 'new').touch(), lambda: (other / 'new').touch(),\n"
        "    lambda: (own / 'file').rename(other / 'file'),\n"
        "    lambda: os.mkfifo(own / 'pipe'),\n"
        "    lambda: (own / 'file').read_text(), folder.mkdir,\n"
        "    lambda: (own / 'file').rename(folder / 'file'),\n"
        "    lambda: os.link(folder / 'file', own / 'link'),\n"
        "    lambda: (own / 'link').unlink(), lambda: (own / 'sym').symlink_to(folder),\n"
        "    lambda: subprocess.run(['true'], check=True, stdout=subprocess.DEVNULL),\n"
        ")]))"
    )
    names = {name.upper(): str(path) for name, path in folders.items()}
    outcomes = said(program, **names)

    assert all(outcome in ("PermissionError", "OSError") for outcome in outcomes[:6]), outcomes
    assert outcomes[6:] == ["done"] * 7


def test_all_folders_but_the_hidden_ones_are_readable(tmp_path: Path) -> None:
    for name in ("system/part", "system/data/jobs", "home"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    hidden = {tmp_path / "system" / "data", tmp_path / "home"}

    assert list(rlimits._all_but(tmp_path, hidden)) == [tmp_path / "system" / "part"]
