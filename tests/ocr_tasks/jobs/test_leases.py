"""Leases of jobs on a real Redis: fencing tokens, takeover, lost messages."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.jobs import leases, lifecycle, queues, retention
from ocr_tasks.jobs.celery_app import QUEUES, app
from ocr_tasks.jobs.result_backend import NotWritten
from ocr_tasks.model import State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from ocr_tasks.worker import recovery
from tests.ocr_tasks.jobs.test_lifecycle import OUTCOME, report, submit

pytestmark = pytest.mark.usefixtures("service")


def run_out(job_id: str) -> None:
    """Expires the lease of a job."""
    connection.client().zadd(keys.LEASES, {job_id: connection.now() - 1}, xx=True)


def messages(lane: str) -> int:
    return int(connection.client().llen(QUEUES[lane]))


def taken_over(job_id: str) -> None:
    run_out(job_id)
    recovery.take_over()


def test_a_job_has_one_worker_at_a_time() -> None:
    job_id = submit()

    assert leases.acquire(job_id, "first", "host:1:2") is not None
    assert leases.acquire(job_id, "second", "host:1:3") is None


def test_a_job_whose_lease_expires_is_requeued_and_keeps_its_progress() -> None:
    job_id = submit(priority="bulk")
    start = leases.acquire(job_id, "first", "host:1:2")
    assert start is not None
    report(job_id, "first", "PROGRESS", dataclasses.replace(start, percent=60.0).to_dict())

    taken_over(job_id)

    job = lifecycle.read(job_id)
    assert (job.state, job.attempt, job.progress.percent) == (State.QUEUED, 2, 60.0)
    # It is first in line, because it has already waited once.
    assert messages("interactive") == 1
    again = leases.acquire(job_id, "second", "host:4:5")
    assert again is not None
    assert (again.percent, again.started_at) == (60.0, start.started_at)


def test_a_renewed_lease_does_not_expire() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    run_out(job_id)

    leases.renew({job_id: "host:1:2"})
    recovery.take_over()

    assert lifecycle.read(job_id).state is State.RUNNING


def test_only_the_holder_can_renew_a_lease() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    run_out(job_id)

    leases.renew({job_id: "host:1:3"})
    recovery.take_over()

    assert lifecycle.read(job_id).state is State.QUEUED


def test_a_worker_that_lost_its_job_cannot_write() -> None:
    job_id = submit()
    start = leases.acquire(job_id, "first", "host:1:2")
    assert start is not None
    taken_over(job_id)

    with pytest.raises(NotWritten):
        report(job_id, "first", "PROGRESS", start.to_dict())
    assert not leases.commit(job_id, "first", OUTCOME)
    assert lifecycle.read(job_id).state is State.QUEUED

    leases.acquire(job_id, "second", "host:4:5")
    assert not leases.commit(job_id, "first", OUTCOME)
    assert not leases.release(job_id, "host:1:2", lost=True)
    assert lifecycle.read(job_id).state is State.RUNNING

    assert leases.commit(job_id, "second", OUTCOME)
    assert lifecycle.read(job_id).state is State.SUCCEEDED


def test_the_result_that_celery_writes_after_the_final_state_changes_nothing() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    assert leases.commit(job_id, "run", OUTCOME)
    before = lifecycle.read(job_id)

    report(job_id, "run", "SUCCESS", OUTCOME.to_dict())

    assert lifecycle.read(job_id) == before


def test_a_job_that_kills_its_workers_fails(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_LOSSES_MAX", "3")
    settings.clear()
    job_id = submit()
    for attempt in (1, 2, 3):
        assert leases.acquire(job_id, f"run {attempt}", "host:1:2") is not None
        assert leases.release(job_id, "host:1:2", lost=True) == (attempt < 3)

    job = lifecycle.read(job_id)
    assert job.state is State.FAILED
    assert job.failure is not None
    assert job.failure.code == "worker_lost"
    assert service.zcard(keys.LEASES) == 0
    assert service.hget(keys.STATS, "jobs_failed") == "1"
    # A retry has as many attempts as a new job.
    lifecycle.retry(job_id)
    leases.acquire(job_id, "run 4", "host:1:2")
    assert leases.release(job_id, "host:1:2", lost=True)


def test_releasing_a_job_does_not_count_as_a_loss() -> None:
    job_id = submit(priority="bulk")
    for _ in range(5):
        assert leases.acquire(job_id, "run", "host:1:2") is not None
        assert leases.release(job_id, "host:1:2")

    job = lifecycle.read(job_id)
    assert (job.state, job.attempt) == (State.QUEUED, 1)
    assert messages("bulk") == 6


def test_a_cancelled_job_is_not_released() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    lifecycle.cancel(job_id)

    assert not leases.release(job_id, "host:1:2", lost=True)
    assert lifecycle.read(job_id).state is State.CANCELLED
    assert connection.client().zcard(keys.LEASES) == 0


def test_celerys_report_of_a_dead_process_does_not_end_the_job() -> None:
    from billiard.exceptions import WorkerLostError

    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")

    app.backend.mark_as_failure(job_id, WorkerLostError("signal 9"))

    assert lifecycle.read(job_id).state is State.RUNNING


def test_a_job_that_redis_lost_does_not_count_as_deleted(service: redis.Redis) -> None:
    deleted, forgotten = submit(), submit()
    lifecycle.delete(deleted)
    service.delete(keys.task(forgotten))

    assert leases.is_deleted(deleted)
    assert not leases.is_deleted(forgotten)
    assert leases.ended([deleted, forgotten]) == {deleted, forgotten}


# Messages


def long_ago(job_id: str, seconds: float) -> None:
    """Moves the time at which the message of a job was sent this many seconds into the past."""
    sent = connection.now() - seconds
    connection.client().zadd(keys.AWAITED, {job_id: sent}, xx=True)


def test_a_message_that_was_never_sent_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "publish", lambda *args: None)
    job_id = submit(priority="bulk")
    monkeypatch.undo()
    recovery.publish_lost()
    assert messages("bulk") == 0  # it may still be in transit

    long_ago(job_id, 60)
    recovery.publish_lost()
    recovery.publish_lost()

    assert messages("bulk") == 1


def test_a_lost_message_is_detected_behind_other_messages(service: redis.Redis) -> None:
    lost = submit()
    service.delete(QUEUES["normal"])
    waiting = [submit() for _ in range(3)]
    long_ago(lost, 60)
    for job_id in waiting:
        long_ago(job_id, 30)

    assert recovery.overdue(10) == [lost]


def test_waiting_messages_are_not_sent_twice() -> None:
    for priority in ("normal", "bulk", "interactive", "normal"):
        long_ago(submit(priority=priority), 60)

    assert recovery.overdue(10) == []


def test_a_lost_message_is_detected_behind_many_older_ones_in_other_queues(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_BATCH_SIZE", 2)
    monkeypatch.setattr(recovery, "_SCAN_SIZE", 2)
    for _ in range(4):
        long_ago(submit(priority="bulk"), 60)
    long_ago(submit(priority="normal"), 30)
    service.delete(QUEUES["normal"])
    thread = recovery.RecoveryThread()

    for _ in range(3):
        assert messages("normal") == 0
        service.delete(f"{keys.TURN_PREFIX}jobs")
        thread.check()

    assert (messages("normal"), messages("bulk")) == (1, 4)


def test_an_acquired_job_is_not_expected_in_a_queue() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")

    assert connection.client().zcard(keys.AWAITED) == 0


# Redis


def test_a_running_job_ends_when_redis_is_full(service: redis.Redis) -> None:
    running, waiting = submit(), submit()
    leases.acquire(running, "run", "host:1:2")
    service.config_set("maxmemory", "1")
    try:
        with pytest.raises(Exception, match="Redis") as refused:
            submit()
        assert getattr(refused.value, "code", None) == "job_store_full"
        leases.renew({running: "host:1:2"})
        assert leases.commit(running, "run", OUTCOME)
        assert leases.acquire(waiting, "run", "host:1:2") is not None
        lifecycle.cancel(waiting)
        lifecycle.delete(waiting)
    finally:
        service.config_set("maxmemory", "0")

    assert lifecycle.read(running).state is State.SUCCEEDED
    assert len(list((settings.get().data_dir / "jobs").glob("*/*"))) == 1


def test_the_recovery_thread_pauses_after_redis_was_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(recovery, "take_over", lambda: calls.append(1))
    thread = recovery.RecoveryThread()
    monkeypatch.setattr(connection, "uptime", lambda: 3600.0)

    thread.check()
    connection.client().delete(keys.TURN_PREFIX + "jobs")
    thread._checked_at -= 60
    thread.check()

    assert calls == [1]


def test_no_job_is_taken_over_right_after_redis_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(recovery, "take_over", lambda: calls.append(1))
    monkeypatch.setattr(connection, "uptime", lambda: 1.0)

    recovery.RecoveryThread().check()

    assert calls == []


def test_one_recovery_thread_acts_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(recovery, "take_over", lambda: calls.append(1))
    monkeypatch.setattr(connection, "uptime", lambda: 3600.0)
    for _ in range(3):
        recovery.RecoveryThread().check()

    assert calls == [1]


# Timestamps of runs


def test_a_job_reports_its_first_start_and_its_last_acquisition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = submit()
    assert lifecycle.read(job_id).started_at is None
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    first = leases.acquire(job_id, "first", "host:1:2")
    assert first is not None
    assert (first.started_at, first.updated_at, first.pages_total) == (1000.0, 1000.0, 7)
    taken_over(job_id)
    monkeypatch.setattr(time, "time", lambda: 2000.0)

    second = leases.acquire(job_id, "second", "host:4:5")

    assert second is not None
    assert (second.started_at, second.updated_at) == (1000.0, 2000.0)
    assert lifecycle.read(job_id).started_at == 1000.0


def test_a_retry_clears_the_end_of_the_previous_run() -> None:
    job_id = submit()
    leases.acquire(job_id, "first", "host:1:2")
    leases.record_failure(job_id, errors.ToolFailed())
    assert (layout.job(job_id).path / "end.json").exists()
    taken_over(job_id)

    assert leases.acquire(job_id, "second", "host:4:5")

    assert not (layout.job(job_id).path / "end.json").exists()


def test_the_failure_of_a_job_that_killed_its_workers_survives_the_loss_of_redis(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_LOSSES_MAX", "1")
    settings.clear()
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    layout.job(job_id).work("run").mkdir(parents=True)

    assert not leases.release(job_id, "host:1:2", lost=True)

    assert not (layout.job(job_id).path / "work").exists()
    service.flushall()
    retention.restore(job_id)
    job = lifecycle.read(job_id)
    assert job.state is State.FAILED
    assert job.failure is not None
    assert job.failure.code == "worker_lost"


def test_an_unknown_job_is_not_released() -> None:
    assert not leases.release(layout.new_id(), "host:1:2", lost=True)


@pytest.mark.parametrize("state", [State.QUEUED, State.SUCCEEDED, State.CANCELLED])
def test_only_a_running_job_is_released(state: State, service: redis.Redis) -> None:
    job_id = submit(priority="bulk")
    if state is State.CANCELLED:
        lifecycle.cancel(job_id)
    elif state is State.SUCCEEDED:
        leases.acquire(job_id, "run", "host:1:2")
        leases.commit(job_id, "run", OUTCOME)
    before, counted = service.hgetall(keys.task(job_id)), service.hgetall(keys.STATS)

    assert not leases.release(job_id, lost=True)

    assert (service.hgetall(keys.task(job_id)), service.hgetall(keys.STATS)) == (before, counted)
    assert (messages("bulk"), messages("interactive")) == (1, 0)
