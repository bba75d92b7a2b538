"""Cases 98 to 102 and 106: the storage is full, or fails. Numbers as in untrusted-input.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests import documents
from tests.conftest import Stack, matching, running_stack, submit, wait_for_end, wait_until
from tests.disks import MIB, SmallDisk, small_disk
from tests.hostile.outcomes import code, folder_of, refused
from tests.parts import another_web, redis_process

pytestmark = pytest.mark.acceptance

SCAN = ("scan.pdf", documents.scan("first", "second"))


@dataclass
class Storage:
    """A stack whose data folder is a disk of its own."""

    stack: Stack
    disk: SmallDisk


@pytest.fixture(scope="module", params=["real", pytest.param("pretended", marks=pytest.mark.slow)])
def storage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp("storage")
    with (
        small_disk(folder, pretend=request.param == "pretended") as disk,
        redis_process(folder / "redis") as redis,
        running_stack(
            folder,
            OCR_DATA_DIR=str(disk.path),
            OCR_REDIS_URL=redis.url,
            OCR_RESERVE_BYTES="0",
            OCR_PLUGINS="tests.plugins.faults",
            OCR_WORKER_PROCESSES="1",
            **disk.environment,
        ) as stack,
    ):
        stack.data_dir = disk.path
        yield Storage(stack, disk)


@pytest.fixture
def disk(storage: Storage) -> Iterator[SmallDisk]:
    """Returns the disk, which is restored after a test."""
    yield storage.disk
    storage.disk.clear()


@pytest.fixture
def stack(storage: Storage) -> Stack:
    return storage.stack


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def uploads(stack: Stack) -> list[str]:
    return [path.name for path in (stack.data_dir / "uploads").glob("*")]


def test_cases_98_and_99_a_full_disk_refuses_uploads_fails_jobs_and_recovers(
    stack: Stack, disk: SmallDisk, http: httpx.Client
) -> None:
    disk.leave(MIB)
    large = submit(http, ("large.pdf", b"%PDF-" + b"\0" * (2 * MIB)))
    refused(large, 507, "storage_full")
    assert uploads(stack) == []

    disk.leave(MIB // 2)
    job = wait_for_end(http, submit(http, SCAN).json())
    assert code(job) == "job_storage_full"
    wait_until(lambda: not list((folder_of(stack, job) / "work").glob("*")))

    disk.clear()
    assert http.post(job["links"]["retry"]).status_code == 202
    assert code(wait_for_end(http, job)) == "succeeded"


def test_the_reserved_space_is_kept_free(stack: Stack, disk: SmallDisk) -> None:
    with another_web(stack, OCR_RESERVE_BYTES=str(10 * MIB)) as web, web.client() as http:
        assert http.get("/readyz").status_code == 200
        disk.leave(9 * MIB)

        answer = submit(http, SCAN)

        refused(answer, 507, "storage_full")
        assert int(answer.headers["Retry-After"]) > 0
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["missing"]) == (503, ["storage"])


def test_case_100_a_run_on_a_full_disk_keeps_the_finished_pages(
    stack: Stack, disk: SmallDisk, http: httpx.Client
) -> None:
    job = wait_for_end(http, submit(http, SCAN, title="fault: crash 2").json())
    assert (code(job), len(job["failed_pages"])) == ("succeeded", 1)
    before = http.get(f"{job['links']['self']}/pages/1/text").text
    assert "first" in before

    disk.leave(MIB // 4)
    assert http.post(job["links"]["retry"]).status_code == 202
    failed = wait_for_end(http, job)

    assert code(failed) == "job_storage_full"
    assert failed["error"]["retryable"]
    assert matching(folder_of(stack, job), "runs/*/*") == []
    assert http.get(f"{job['links']['self']}/pages/1/text").text == before
    disk.clear()
    assert http.post(job["links"]["retry"]).status_code == 202
    assert code(wait_for_end(http, job)) == "succeeded"


def test_case_101_no_more_files_can_be_created(
    stack: Stack, disk: SmallDisk, http: httpx.Client
) -> None:
    for left in (0, 2):
        disk.leave_files(left)
        refused(submit(http, SCAN), 507, "storage_full")
        assert uploads(stack) == []

    disk.clear()
    assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"


def test_case_102_the_storage_is_read_only(disk: SmallDisk, http: httpx.Client) -> None:
    job = wait_for_end(http, submit(http, SCAN).json())
    disk.forbid_writing()

    refused(submit(http, SCAN), 503, "storage_unavailable")
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["storage"])
    assert http.get("/healthz").status_code == 200
    assert http.get(f"{job['links']['self']}/pdf").status_code == 200

    disk.clear()
    assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"


def test_case_106_the_disk_fails_while_a_job_runs(stack: Stack, http: httpx.Client) -> None:
    """It is not retried automatically. The client can retry it when the disk works again."""
    job = wait_for_end(http, submit(http, SCAN, title="fault: input_output").json())

    assert code(job) == "job_storage_error"
    assert job["error"]["retryable"]
    wait_until(lambda: not (folder_of(stack, job) / "work").exists())


def test_case_106_a_replaced_folder_is_detected(stack: Stack, http: httpx.Client) -> None:
    """This happens when a volume is mounted again: sandboxes refer to the earlier folder."""
    assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"
    (stack.data_dir / "jobs").rename(stack.data_dir / "before")

    assert code(wait_for_end(http, submit(http, SCAN).json())) == "job_storage_error"
    assert code(wait_for_end(http, submit(http, SCAN).json())) == "succeeded"
