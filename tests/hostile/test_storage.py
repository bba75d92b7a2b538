"""Cases 98 to 102 and 106: the storage fills up, or fails. Numbers as in hostile-input.md.

A disk that is full while a document comes in, or while a job runs (98, 99), is in
tests/acceptance/test_faults.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import documents
from tests.acceptance.test_faults import MIB, fill, redis_process
from tests.conftest import Stack, running_stack, submit, wait_for_end, wait_until
from tests.hostile.outcomes import code, folder_of, refused

pytestmark = pytest.mark.acceptance

SCAN = ("scan.pdf", documents.scan("first", "second"))


@contextlib.contextmanager
def stack_on_disk(folder: Path, options: str, **settings: str) -> Iterator[Stack]:
    """A stack whose data folder is a file system of its own."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        with (
            redis_process(folder) as (url, _),
            running_stack(
                folder,
                OCR_DATA_DIR=str(disk),
                OCR_REDIS_URL=url,
                OCR_RESERVE_BYTES="0",
                OCR_PLUGINS="tests.plugins.faults",
                **settings,
            ) as stack,
        ):
            stack.data_dir = disk
            yield stack
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_case_100_a_run_that_finds_the_disk_full_leaves_what_was_read(tmp_path: Path) -> None:
    with stack_on_disk(tmp_path, "size=32m") as stack, stack.client() as http:
        job = wait_for_end(http, submit(http, SCAN, title="fault: crash 2").json())
        assert (code(job), len(job["failed_pages"])) == ("succeeded", 1)
        before = http.get(f"{job['links']['self']}/pages/1/text").text
        assert "first" in before

        ballast = fill(stack.data_dir, leave=MIB // 4)
        assert http.post(job["links"]["retry"]).status_code == 202
        failed = wait_for_end(http, job)

        assert code(failed) == "job_storage_full"
        assert failed["error"]["retryable"]
        assert list(folder_of(stack, job).glob("runs/*/*")) == []
        assert http.get(f"{job['links']['self']}/pages/1/text").text == before
        ballast.unlink()
        assert http.post(job["links"]["retry"]).status_code == 202
        assert code(wait_for_end(http, job)) == "succeeded"


def test_case_101_no_file_more_can_be_made(tmp_path: Path) -> None:
    with stack_on_disk(tmp_path, "size=32m,nr_inodes=300") as stack, stack.client() as http:
        full = stack.data_dir / "full"
        full.mkdir()
        with contextlib.suppress(OSError):
            for number in range(300):
                (full / str(number)).touch()

        refused(submit(http, SCAN), 507, "storage_full")
        for file in list(full.iterdir())[:2]:
            file.unlink()
        refused(submit(http, SCAN), 507, "storage_full")
        assert list((stack.data_dir / "uploads").glob("*")) == []

        for file in full.iterdir():
            file.unlink()
        assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"


def test_case_102_the_storage_is_read_only(tmp_path: Path) -> None:
    with stack_on_disk(tmp_path, "size=32m") as stack, stack.client() as http:
        job = wait_for_end(http, submit(http, SCAN).json())
        # The same files once more, on top: what is open for writing forbids anything else.
        subprocess.run(["mount", "--bind", stack.data_dir, stack.data_dir], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", stack.data_dir], check=True)

        refused(submit(http, SCAN), 503, "storage_unavailable")
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["storage"])
        assert http.get("/healthz").status_code == 200
        assert http.get(f"{job['links']['self']}/pdf").status_code == 200

        subprocess.run(["umount", stack.data_dir], check=True)
        assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"


def test_case_106_the_disk_fails_while_a_job_runs(tmp_path: Path) -> None:
    """It is not tried again by itself: whoever sent it can, when the disk is well again."""
    with (
        running_stack(tmp_path, OCR_PLUGINS="tests.plugins.faults") as stack,
        stack.client() as http,
    ):
        job = wait_for_end(http, submit(http, SCAN, title="fault: input_output").json())

        assert code(job) == "job_storage_error"
        assert job["error"]["retryable"]
        wait_until(lambda: not (folder_of(stack, job) / "work").exists())


def test_case_106_a_folder_that_is_replaced_is_found_again(tmp_path: Path) -> None:
    """As when a volume comes back: processes are shut in to the folder that was there before."""
    with running_stack(tmp_path, OCR_WORKER_PROCESSES="1") as stack, stack.client() as http:
        assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"
        (stack.data_dir / "jobs").rename(stack.data_dir / "before")

        assert code(wait_for_end(http, submit(http, SCAN).json())) == "job_storage_error"
        assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"
