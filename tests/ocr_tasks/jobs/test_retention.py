"""Retention: what is deleted after its time, files without a job, and recovery of lost records."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.jobs import leases, lifecycle, retention
from ocr_tasks.jobs.retention import Swept
from ocr_tasks.model import Outcome, State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from tests.ocr_tasks.jobs.test_lifecycle import OUTCOME, submit

pytestmark = pytest.mark.usefixtures("service")

DAY = 24 * 3600


def finished(ago: float = 0) -> str:
    """Creates a job that ended this many seconds ago, with files."""
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    folder = layout.job(job_id)
    folder.run("run").mkdir(parents=True)
    (folder.run("run") / "result.pdf").write_bytes(b"%PDF-1.7")
    folder.page(1).mkdir(parents=True)
    (folder.page(1) / "page.json").write_bytes(b"{}")
    assert leases.commit(job_id, "run", OUTCOME)
    for index in (keys.ENDED_WITH_INPUT, keys.ENDED_WITH_RESULTS, keys.ENDED):
        connection.client().zadd(index, {job_id: connection.now() - ago}, xx=True)
    return job_id


def keep(monkeypatch: pytest.MonkeyPatch, **seconds: int) -> None:
    for name, value in seconds.items():
        monkeypatch.setenv(f"OCR_KEEP_{name.upper()}_SECONDS", str(value))
    settings.clear()


def make_old(path: Path, seconds: float = 2 * DAY) -> None:
    then = time.time() - seconds
    for file in (path, *path.rglob("*")):
        os.utime(file, (then, then))


def test_inputs_results_and_jobs_are_deleted_after_their_retention_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep(monkeypatch, inputs=1 * DAY, results=2 * DAY, jobs=3 * DAY)
    fresh, first, second, third = (finished(days * DAY) for days in (0.5, 1.5, 2.5, 3.5))
    swept = Swept()

    retention.expire(swept)

    assert (swept.inputs, swept.results, swept.jobs) == (3, 2, 1)
    assert swept.bytes > 0
    there = {
        job_id: (layout.job(job_id).input.exists(), layout.job(job_id).run("run").exists())
        for job_id in (fresh, first, second, third)
    }
    assert there == {
        fresh: (True, True),
        first: (False, True),
        second: (False, False),
        third: (False, False),
    }
    with pytest.raises(errors.JobDeleted):
        lifecycle.read(third)
    assert not layout.job(third).path.exists()
    again = Swept()
    retention.expire(again)
    assert not again


def test_unlimited_retention_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, inputs=0, results=0, jobs=0)
    finished(1000 * DAY)
    swept = Swept()

    retention.expire(swept)

    assert not swept


def test_a_retry_keeps_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, inputs=DAY, results=DAY, jobs=DAY)
    job_id = submit()
    lifecycle.cancel(job_id)
    lifecycle.retry(job_id)
    for index in (keys.ENDED_WITH_INPUT, keys.ENDED_WITH_RESULTS, keys.ENDED):
        assert connection.client().zscore(index, job_id) is None


def test_a_job_reports_when_its_results_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, results=2 * DAY, jobs=1 * DAY)
    job = lifecycle.read(finished())

    assert job.ended_at is not None
    assert job.expires_at == job.ended_at + DAY


def test_more_jobs_than_fit_into_one_sweep_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch, inputs=DAY, results=0, jobs=0)
    monkeypatch.setattr(retention, "_BATCH_SIZE", 2)
    for _ in range(5):
        finished(2 * DAY)
    swept = Swept()

    retention.expire(swept)

    assert swept.inputs == 5


def test_files_without_a_job_are_deleted() -> None:
    kept_upload, old_upload = layout.new_upload(), layout.new_upload()
    (old_upload / "upload-00001").write_bytes(b"x" * 5000)
    make_old(old_upload)
    waiting = submit()
    orphan = layout.job(layout.new_id()).path
    orphan.mkdir(parents=True)
    (orphan / "input.pdf").write_bytes(b"%PDF-")
    make_old(orphan)
    swept = Swept()

    retention.sweep(swept)

    assert (swept.uploads, swept.leftovers, swept.restored) == (1, 1, 0)
    assert swept.bytes >= 5000
    assert kept_upload.exists()
    assert not old_upload.exists()
    assert not orphan.exists()
    assert layout.job(waiting).input.exists()


def test_an_unfinished_upload_is_not_deleted() -> None:
    upload = layout.new_upload()
    (upload / "upload-00001").write_bytes(b"x")
    make_old(upload)
    (upload / "upload-00001").write_bytes(b"xy")
    swept = Swept()

    retention.sweep(swept)

    assert upload.exists()
    assert not swept


def test_the_files_of_a_stale_run_are_deleted_and_its_results_are_kept() -> None:
    job_id = finished()
    folder = layout.job(job_id)
    for left in (folder.run("stale"), folder.work("stale")):
        left.mkdir(parents=True)
        (left / "file").write_bytes(b"x")
        make_old(folder.path)
    swept = Swept()

    retention.sweep(swept)

    assert swept.leftovers == 2
    assert not folder.run("stale").exists()
    assert not (folder.path / "work").exists()
    assert (folder.run("run") / "result.pdf").exists()


def test_the_files_of_a_deleted_job_are_deleted_after_an_interrupted_deletion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = finished()
    monkeypatch.setattr(layout, "delete", lambda job_id: None)
    lifecycle.delete(job_id)
    assert layout.job(job_id).path.exists()
    swept = Swept()

    retention.sweep(swept)

    assert not layout.job(job_id).path.exists()
    assert swept.restored == 0


def test_jobs_that_redis_lost_are_restored(service: redis.Redis) -> None:
    done, waiting = finished(), submit(languages=["deu"], priority="bulk", owner="me")
    cancelled, failed, again = submit(), submit(), submit()
    for job_id in (cancelled, again):
        lifecycle.cancel(job_id)
    lifecycle.retry(again)
    leases.acquire(again, "run", "host:1:2")
    leases.acquire(failed, "run", "host:1:2")
    leases.record_failure(failed, errors.ToolFailed())
    before = lifecycle.read(waiting)
    service.flushall()
    swept = Swept()

    retention.sweep(swept)

    assert swept.restored == 5
    assert lifecycle.read(cancelled).state is State.CANCELLED
    ended = lifecycle.read(failed)
    assert ended.state is State.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "tool_failed"
    assert lifecycle.read(again).state is State.QUEUED
    assert lifecycle.read(done).state is State.SUCCEEDED
    assert lifecycle.read(done).outcome == OUTCOME
    after = lifecycle.read(waiting)
    assert (after.state, after.owner, after.input, after.options, after.created_at) == (
        State.QUEUED,
        "me",
        before.input,
        before.options,
        before.created_at,
    )
    assert service.llen("ocr.bulk") == 1


def test_a_damaged_manifest_is_ignored(service: redis.Redis) -> None:
    damaged, whole = submit(), submit()
    (layout.job(damaged).path / "job.json").write_bytes(b'{"id": 1}')
    service.flushall()
    swept = Swept()

    retention.sweep(swept)

    assert swept.restored == 1
    assert lifecycle.read(whole).state is State.QUEUED
    assert layout.job(damaged).input.exists()


def test_an_outcome_survives_a_round_trip_through_json() -> None:
    assert Outcome.from_dict(OUTCOME.to_dict()) == OUTCOME
