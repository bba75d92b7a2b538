"""The Celery result backend, with a real Redis."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import redis
from billiard.exceptions import (
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.contrib.abortable import ABORTED
from celery.exceptions import TaskRevokedError
from celery.worker.state import revoked

from ocr_tasks import errors, settings
from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.jobs.celery_app import QUEUES, app
from ocr_tasks.jobs.result_backend import NotWritten
from ocr_tasks.model import PageFailure, Progress, State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from tests.ocr_tasks.jobs.test_lifecycle import OUTCOME, report, submit

pytestmark = pytest.mark.usefixtures("service")


def claimed(**chosen: Any) -> str:
    job_id = submit(**chosen)
    assert leases.acquire(job_id, "worker", "host:1:2")
    return job_id


def stats(service: redis.Redis) -> dict[str, str]:
    return service.hgetall(keys.STATS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SoftTimeLimitExceeded(), "job_timeout"),
        (TimeLimitExceeded(), "job_timeout"),
        (TaskRevokedError(), "job_cancelled"),
        (WorkerLostError(), "worker_lost"),
        (Terminated(), "worker_lost"),
        (MemoryError(), "job_out_of_memory"),
        (ZeroDivisionError(), "job_crashed"),
        (errors.PriorText("page 4"), "prior_text"),
    ],
)
def test_each_exception_has_a_code(error: BaseException, code: str) -> None:
    told = app.backend.prepare_exception(error)

    assert told["code"] == code
    assert told["exc_module"] == "ocr_tasks.errors"
    assert told["retryable"] is not None


def test_celerys_main_process_can_end_a_job_without_a_token() -> None:
    job_id = claimed()

    app.backend.mark_as_failure(job_id, TimeLimitExceeded(10))

    failure = lifecycle.read(job_id).failure
    assert failure is not None
    assert failure.code == "job_timeout"


def test_a_job_that_was_released_is_written_by_its_next_run_only() -> None:
    job_id = claimed()

    for state, value in (("SUCCESS", OUTCOME.to_dict()), ("FAILURE", errors.ToolFailed())):
        report(job_id, "another", state, value)
    with pytest.raises(NotWritten):
        report(job_id, "another", "PROGRESS", Progress().to_dict())

    assert lifecycle.read(job_id).state is State.RUNNING


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "RECEIVED", "PENDING"])
def test_other_states_of_celery_change_nothing(state: str) -> None:
    job_id = claimed()
    before = lifecycle.read(job_id)

    report(job_id, "worker", state, {})

    assert lifecycle.read(job_id) == before


def test_a_celery_client_that_aborts_a_job_cancels_it_on_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = claimed()
    asked: list[str] = []
    monkeypatch.setattr(app.control, "revoke", asked.append)

    report(job_id, "", ABORTED, None)

    assert asked == [job_id]
    assert lifecycle.read(job_id).state is State.RUNNING


def test_a_revoked_job_is_cancelled() -> None:
    job_id = claimed()
    revoked.add(job_id)

    report(job_id, "worker", "REVOKED", errors.JobCancelled())

    assert lifecycle.read(job_id).state is State.CANCELLED


def test_the_result_that_celery_reads_contains_the_job_id() -> None:
    job_id = claimed()

    assert app.backend.get_task_meta(job_id)["task_id"] == job_id
    leases.commit(job_id, "worker", OUTCOME)
    meta = app.backend.get_task_meta(job_id, cache=False)
    assert (meta["task_id"], meta["status"], meta["result"]["pages"]) == (job_id, "SUCCESS", 7)


def test_celery_sees_a_requeued_job_as_waiting() -> None:
    job_id = claimed()

    leases.release(job_id, "host:1:2")
    given_back = app.backend.get_task_meta(job_id, cache=False)
    lifecycle.cancel(job_id)
    lifecycle.retry(job_id)
    retried = app.backend.get_task_meta(job_id, cache=False)

    for meta in (given_back, retried):
        assert (meta["task_id"], meta["status"]) == (job_id, "QUEUED")
        assert meta["result"]["percent"] == 0.0


def test_celery_sees_the_failure_of_a_job_that_lost_its_workers() -> None:
    job_id = submit()
    for _ in range(settings.get().losses_max):
        leases.acquire(job_id, "worker", "host:1:2")
        leases.release(job_id, "host:1:2", lost=True)

    meta = app.backend.get_task_meta(job_id)
    assert (meta["task_id"], meta["status"]) == (job_id, "FAILURE")
    assert meta["result"].args == (errors.WorkerLost().detail,)


# Counters


def test_failed_pages_are_counted(service: redis.Redis) -> None:
    failed = (PageFailure(2, "page_timeout", ""), PageFailure(3, "page_timeout", ""))
    leases.commit(claimed(), "worker", dataclasses.replace(OUTCOME, failed_pages=failed))

    assert (stats(service)["pages"], stats(service)["pages_failed"]) == ("7", "2")


def test_each_end_is_counted_once(service: redis.Redis) -> None:
    for _ in range(2):
        lifecycle.cancel(submit())
    job_id = claimed()
    for _ in range(2):
        report(job_id, "worker", "FAILURE", errors.ToolFailed())
    job_id = claimed()
    for _ in range(2):
        leases.commit(job_id, "worker", OUTCOME)

    found = stats(service)
    ends = {name: n for name, n in found.items() if name.startswith(("jobs_", "failed_", "took_"))}
    assert ends == {
        "jobs_submitted": "4",
        "jobs_cancelled": "2",
        "jobs_failed": "1",
        "failed_tool_failed": "1",
        "jobs_succeeded": "1",
        "took_5.0": "1",
    }


@pytest.mark.parametrize(
    ("seconds", "class_"),
    [(0.0, "0.1"), (1000.0, "3600.0"), (4000.0, "21600.0"), (90_000.0, "+Inf")],
)
def test_the_waiting_time_of_a_job_is_counted_in_its_bucket(
    seconds: float, class_: str, service: redis.Redis
) -> None:
    job_id = submit()
    sent = service.zscore(keys.AWAITED, job_id)
    assert sent is not None
    # A wait that begins in the future is 0 s; only 0 s is certain to be in the first bucket.
    service.zadd(keys.AWAITED, {job_id: sent - seconds if seconds else sent + 60})

    leases.acquire(job_id, "worker", "host:1:2")

    waited = {name for name in stats(service) if name.startswith("waited_")}
    assert waited == {f"waited_{class_}", "waited_seconds"}
    assert float(stats(service)["waited_seconds"]) >= seconds


def test_losses_and_yields_are_counted(service: redis.Redis) -> None:
    job_id = claimed()
    assert leases.release(job_id, "host:1:2", lost=True)
    leases.acquire(job_id, "worker", "host:1:2")
    assert leases.release(job_id, "host:1:2")

    found = stats(service)
    assert (found["takeovers"], found["asides"], found["attempts"]) == ("1", "1", "2")


def test_a_retry_is_counted_and_waits_again(service: redis.Redis) -> None:
    job_id = submit(priority="bulk")
    lifecycle.cancel(job_id)
    assert (layout.job(job_id).path / "end.json").exists()

    lifecycle.retry(job_id)

    assert stats(service)["retries"] == "1"
    assert not (layout.job(job_id).path / "end.json").exists()
    assert service.llen(QUEUES["bulk"]) == 2
    assert service.zscore(keys.AWAITED, job_id)
    assert service.hget(keys.task(job_id), "lane") == "bulk"
    assert [service.zscore(key, job_id) for key in ENDED] == [None] * 3


ENDED = (keys.ENDED_WITH_INPUT, keys.ENDED_WITH_RESULTS, keys.ENDED)


def test_a_retry_needs_a_place_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = submit()
    lifecycle.cancel(job_id)
    monkeypatch.setenv("OCR_QUEUE_MAX", "1")
    settings.clear()
    other = submit()

    with pytest.raises(errors.QueueFull):
        lifecycle.retry(job_id)
    assert lifecycle.read(job_id).state is State.CANCELLED
    assert (layout.job(job_id).path / "end.json").exists()

    leases.acquire(other, "worker", "host:1:2")
    assert lifecycle.retry(job_id).state is State.QUEUED


# Keys that a job leaves in Redis


def test_a_finished_job_has_neither_a_holder_nor_an_expected_message(service: redis.Redis) -> None:
    job_id = claimed()
    assert service.hmget(keys.task(job_id), "token", "holder") == ["worker", "host:1:2"]

    leases.commit(job_id, "worker", OUTCOME)

    assert service.hmget(keys.task(job_id), "token", "holder") == ["", ""]
    assert service.zscore(keys.LEASES, job_id) is None
    assert service.zscore(keys.AWAITED, job_id) is None
    assert all(service.zscore(key, job_id) for key in ENDED)


def test_a_job_is_acquired_for_the_duration_of_a_lease(service: redis.Redis) -> None:
    before = connection.now()
    job_id = claimed()

    until = service.zscore(keys.LEASES, job_id)
    assert until is not None
    assert before <= until - settings.get().lease_seconds <= connection.now()


def test_each_change_of_a_job_is_a_new_revision() -> None:
    job_id = submit()
    revisions = [lifecycle.read(job_id).revision]
    start = leases.acquire(job_id, "worker", "host:1:2")
    assert start is not None
    revisions.append(lifecycle.read(job_id).revision)
    report(job_id, "worker", "PROGRESS", start.to_dict())
    revisions.append(lifecycle.read(job_id).revision)
    leases.commit(job_id, "worker", OUTCOME)
    revisions.append(lifecycle.read(job_id).revision)

    assert revisions == [revisions[0] + n for n in range(4)]


def test_the_delay_until_a_place_is_free_is_between_one_second_and_an_hour(
    service: redis.Redis,
) -> None:
    assert lifecycle.estimate_retry_after() == 31
    service.hset(keys.STATS, mapping={"seconds_total": 0.1, "jobs_succeeded": 1})
    assert lifecycle.estimate_retry_after() == 1
    service.hset(keys.STATS, mapping={"seconds_total": 10**9, "jobs_succeeded": 1})
    assert lifecycle.estimate_retry_after() == 3600
