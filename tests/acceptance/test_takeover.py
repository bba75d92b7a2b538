"""Workers are killed, suspended and restarted; Redis stops and starts; no job is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import redis

from tests.acceptance.conftest import cancel_all, open_gate
from tests.acceptance.test_workers import PAGE, TEXT, failures, pages, programs
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("faulty")]


@pytest.fixture(scope="module")
def stack(faulty: Stack) -> Stack:
    return faulty


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client
        cancel_all(client)


@contextlib.contextmanager
def another_worker(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    """Runs another worker on the same data, and kills it at the end."""
    environment = stack.environment | {"OCR_WORKER_PROCESSES": "1"}
    others = workers(stack)
    with stack.log.open("ab") as words:
        worker = subprocess.Popen(
            [sys.executable, "-m", "ocr_tasks.cli", "worker"],
            env=environment,
            stdout=words,
            stderr=words,
        )
    try:
        # The others may have expired by then: a suspended worker does not report itself.
        wait_until(lambda: workers(stack) - others, 240)
        yield worker
    finally:
        worker.kill()
        worker.wait()
        if left := workers(stack) - others:
            store(stack).delete(*left)


def store(stack: Stack) -> redis.Redis:
    path = stack.data_dir / "redis" / "redis.sock"
    return redis.Redis.from_url(f"unix://{path}", decode_responses=True)


def workers(stack: Stack) -> set[str]:
    return set(store(stack).keys("ocr:worker:*"))


def main_process(stack: Stack) -> psutil.Process:
    """Returns the main process of the stack's worker."""
    assert stack.process is not None
    children = psutil.Process(stack.process.pid).children()
    return next(child for child in children if "worker" in child.cmdline())


def holder(stack: Stack, job: dict[str, Any]) -> int:
    """Returns the process ID that has a job; 0: none."""
    name = store(stack).hget(f"celery-task-meta-{job['id']}", "holder")
    return int(str(name).rpartition(":")[2]) if name else 0


def done(http: httpx.Client, job: dict[str, Any]) -> int:
    return int(http.get(job["links"]["self"]).json()["progress"]["pages_done"])


def check_whole(http: httpx.Client, stack: Stack, job: dict[str, Any]) -> None:
    """Checks that a job has succeeded with the text of all pages, and left no temporary files."""
    assert (job["state"], failures(job)) == ("succeeded", [])
    assert http.get(f"{job['links']['self']}/text").text.count(TEXT) == job["input"]["pages"]
    folder = stack.data_dir / "jobs" / job["id"][:2] / job["id"]
    wait_until(lambda: not (folder / "work").exists())
    assert len(list((folder / "runs").iterdir())) == 1
    assert store(stack).zscore("ocr:leases", job["id"]) is None


def test_a_job_resumes_when_its_process_is_killed(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, pages(6), title="fault: gate 3,4,5,6").json()
    wait_until(lambda: done(http, job) == 2)

    os.kill(holder(stack, job), signal.SIGKILL)

    wait_until(lambda: http.get(job["links"]["self"]).json()["attempt"] == 2)
    wait_until(lambda: f"died; job {job['id']}" in stack.log.read_text())
    open_gate(stack, job)
    ended = wait_for_end(http, job)
    assert ended["attempt"] == 2
    check_whole(http, stack, ended)


def test_a_job_resumes_when_its_whole_worker_is_killed(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, pages(6), title="fault: gate 3,4,5,6").json()
    hanging = submit(http, PAGE, title="fault: hang").json()
    wait_until(lambda: done(http, job) == 2 and programs(stack))

    main_process(stack).kill()

    wait_until(lambda: http.get(job["links"]["self"]).json()["attempt"] == 2)
    open_gate(stack, job)
    ended = wait_for_end(http, job)
    assert ended["attempt"] == 2
    check_whole(http, stack, ended)
    # Programs of the dead worker are gone; the page that hangs hangs again.
    wait_until(lambda: len(programs(stack)) == 1)
    http.post(f"{hanging['links']['self']}/cancel").raise_for_status()
    wait_until(lambda: not programs(stack))


def test_a_worker_that_resumes_late_changes_nothing(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, pages(6), title="fault: gate 3,4,5,6").json()
    wait_until(lambda: done(http, job) == 2)
    main = main_process(stack)
    asleep = [main, *main.children(recursive=True)]
    for process in asleep:
        process.suspend()
    try:
        with another_worker(stack):
            wait_until(lambda: http.get(job["links"]["self"]).json()["attempt"] == 2)
            open_gate(stack, job)
            ended = wait_for_end(http, job)
            check_whole(http, stack, ended)
            assert ended["attempt"] == 2
            for process in asleep:
                # The first process to resume may end the others, which have a job that is no longer
                # theirs.
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
            # It detects that it lost the job, and can be used again.
            after = wait_for_end(http, submit(http, PAGE).json())
            assert after["state"] == "succeeded"
    finally:
        for process in asleep:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
    wait_until(lambda: not holder(stack, job))
    assert http.get(job["links"]["self"]).json() == ended
    check_whole(http, stack, ended)


def test_a_job_that_kills_its_workers_fails_and_affects_no_other(
    stack: Stack, http: httpx.Client
) -> None:
    poison = submit(http, PAGE, title="fault: poison").json()
    others = [submit(http, PAGE).json() for _ in range(3)]

    failed = wait_for_end(http, poison)

    assert (failed["state"], failed["error"]["code"]) == ("failed", "worker_lost")
    assert failed["attempt"] == 3
    for job in others:
        ended = wait_for_end(http, job)
        # They may have been helping at that moment, but did not cause the crash.
        check_whole(http, stack, ended)


def test_a_stopped_worker_releases_its_jobs_with_their_finished_pages(
    stack: Stack, http: httpx.Client
) -> None:
    seen = len(stack.log.read_text())
    job = submit(http, pages(8), title="fault: gate 3,4,5,6,7,8").json()
    wait_until(lambda: done(http, job) == 2)

    main_process(stack).terminate()

    wait_until(lambda: "running jobs have" in stack.log.read_text()[seen:])
    open_gate(stack, job)
    ended = wait_for_end(http, job)
    check_whole(http, stack, ended)
    # No worker was lost.
    assert ended["attempt"] == 1
    log = http.get(f"{job['links']['self']}/log").text
    assert "yield to another document" in log
    assert "died; job" not in stack.log.read_text()[seen:]


def test_a_job_that_hangs_is_released_when_its_worker_is_stopped(
    stack: Stack, http: httpx.Client
) -> None:
    job = submit(http, PAGE, title="fault: hang").json()
    wait_until(lambda: programs(stack))
    (program,) = programs(stack)

    main_process(stack).terminate()

    wait_until(lambda: not program.is_running())
    wait_until(lambda: programs(stack))
    again = http.get(job["links"]["self"]).json()
    assert (again["state"], again["attempt"]) == ("running", 1)
    http.post(f"{job['links']['self']}/cancel").raise_for_status()
    wait_until(lambda: not programs(stack))


def test_jobs_survive_killing_redis(stack: Stack, http: httpx.Client) -> None:
    running = submit(http, pages(6), title="fault: gate 2,3,4,5,6").json()
    waiting = [submit(http, PAGE).json() for _ in range(3)]
    wait_until(lambda: done(http, running) >= 1)
    assert stack.process is not None
    server = next(
        child
        for child in psutil.Process(stack.process.pid).children()
        if child.name() == "redis-server"
    )
    # Data of the last second may not have reached the disk (appendfsync everysec).
    wait_until(lambda: int(store(stack).info("persistence")["aof_pending_bio_fsync"]) == 0)

    server.kill()

    wait_until(lambda: not server.is_running())
    wait_until(stack.ready)
    open_gate(stack, running)
    for job in (running, *waiting):
        check_whole(http, stack, wait_for_end(http, job))


def test_jobs_survive_the_loss_of_all_data_in_redis(stack: Stack, http: httpx.Client) -> None:
    ended = wait_for_end(http, submit(http, PAGE).json())
    running = submit(http, pages(6), title="fault: gate 2,3,4,5,6").json()
    waiting = submit(http, PAGE).json()
    wait_until(lambda: done(http, running) >= 1)

    store(stack).flushall()

    for job in (ended, running, waiting):
        wait_until(lambda link=job["links"]["self"]: http.get(link).status_code == 200)
    open_gate(stack, running)
    for job in (ended, running, waiting):
        check_whole(http, stack, wait_for_end(http, job))


def test_running_jobs_succeed_when_redis_is_full(stack: Stack, http: httpx.Client) -> None:
    running = submit(http, pages(6), title="fault: gate 2,3,4,5,6").json()
    waiting = submit(http, PAGE).json()
    wait_until(lambda: done(http, running) >= 1)

    store(stack).config_set("maxmemory", "1mb")
    try:
        refused = submit(http, PAGE)
        assert (refused.status_code, refused.json()["code"]) == (503, "job_store_full")
        assert int(refused.headers["Retry-After"]) > 0
        open_gate(stack, running)
        check_whole(http, stack, wait_for_end(http, running))
    finally:
        store(stack).config_set("maxmemory", "0")
    check_whole(http, stack, wait_for_end(http, waiting))
    check_whole(http, stack, wait_for_end(http, submit(http, PAGE).json()))


def test_a_repeated_request_with_the_same_key_is_one_job(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}
    files = {"file": PAGE}
    first = http.post("/v1/jobs", files=files, headers=headers)
    second = http.post("/v1/jobs", files=files, headers=headers)
    other = http.post("/v1/jobs", files=files, headers=headers, data={"deskew": "true"})

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Location"] == first.headers["Location"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
