"""What an attacker can do who controls a process that parses documents (threats T1 and T2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from ocr_tasks.sandbox import landlock
from tests import documents
from tests.conftest import running_stack, submit, wait_for_end
from tests.plugins.confinement import CANARY, SECRET

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Returns the results of the attempts of code that runs in a process of the worker."""
    folder = tmp_path_factory.mktemp("confinement")
    (folder / CANARY).write_text(SECRET)
    with (
        running_stack(
            folder,
            OCR_PLUGINS="tests.plugins.faults",
            OCR_WORKER_PROCESSES="1",
            AWS_SECRET_ACCESS_KEY=SECRET,
            OCR_REDIS_PASSWORD_OF_NOBODY=SECRET,
        ) as stack,
        stack.client() as http,
    ):
        job = submit(http, ("a.pdf", documents.scan("text")), title="fault: look_around").json()
        ended = wait_for_end(http, job)
        assert ended["state"] == "succeeded", ended["error"]
        path = stack.data_dir / "jobs" / job["id"][:2] / job["id"] / "tried.json"
        yield json.loads(path.read_text())


def test_this_kernel_supports_the_sandbox() -> None:
    """The tests below have no meaning without it: they need Linux 6.12 or newer."""
    assert landlock.landlock() >= 6


@pytest.mark.parametrize(
    "attempt",
    [
        "read a file outside",
        "read a file outside with a program",
        "write a file outside",
        "write beside the jobs",
        "write to /tmp",
        "read the files of Redis",
        "connect to the web server",
        "listen",
        "signal the worker",
        "read the worker's environment",
        "run what it wrote",
    ],
)
def test_t1_code_in_a_worker_cannot_leave_the_sandbox(tried: dict[str, str], attempt: str) -> None:
    assert tried[attempt] in ("PermissionError", "CalledProcessError")


def test_t1_only_the_job_can_access_files_that_code_in_a_worker_writes(
    tried: dict[str, str],
) -> None:
    assert tried["write into the job"] == "1"
    assert tried["mode of what it wrote"] == "0o600"


def test_t1_programs_get_no_secrets(tried: dict[str, str]) -> None:
    names = {line.partition("=")[0] for line in tried["environment of programs"].splitlines()}

    assert SECRET not in tried["environment of programs"]
    assert {name for name in names if name.startswith("OCR_")} == {"OCR_TASKS_STARTED_BY"}
    assert {"PATH", "HOME", "TMPDIR"} <= names


def test_t1_processes_have_limits(tried: dict[str, str]) -> None:
    limits = {line[:26].strip(): line[26:].split()[0] for line in tried["limits"].splitlines()}

    assert "NoNewPrivs:\t1" in tried["privileges"]
    (effective,) = re.findall(r"CapEff:\t(\w+)", tried["privileges"])
    assert int(effective, 16) & ~0b1110 == 0  # root may still ignore the modes of files
    assert int(tried["oom score"]) >= 500
    assert limits["Max core file size"] == "0"
    assert int(limits["Max data size"]) == 8 << 30
    assert int(limits["Max file size"]) == 16 << 30
    assert int(limits["Max cpu time"]) >= 4 * 3600
