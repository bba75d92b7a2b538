"""The life cycle of a job with a real Redis, without a worker."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from typing import Any

import pytest
import redis
from billiard.exceptions import TimeLimitExceeded
from celery.result import AsyncResult
from celery.worker.state import revoked

from ocr_tasks import errors, options, settings
from ocr_tasks.jobs import idempotency, leases, lifecycle, retention, worker_registry
from ocr_tasks.jobs.celery_app import QUEUES, app
from ocr_tasks.jobs.result_backend import NotWritten
from ocr_tasks.model import Artifact, JobInput, Outcome, Progress, Stage, State, WorkerInfo
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout, store
from tests.conftest import wait_until

pytestmark = pytest.mark.usefixtures("service")

INPUT = JobInput("scan.pdf", 1, 1234, 7, "application/pdf", "0" * 64)
OUTCOME = Outcome(
    run="run",
    artifacts=(Artifact("pdf", "application/pdf", 5, "1" * 64),),
    pages=7,
    seconds={"ocr": 2.5, "total": 3.0},
    versions={"ocrmypdf": "17"},
)


class Request:
    """Celery's request of a task, as it is passed to the result backend."""

    def __init__(self, token: str) -> None:
        self.fencing_token = token


def submit(owner: str = "", **chosen: Any) -> str:
    job_id = layout.new_id()
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")
    layout.adopt(upload, job_id)
    lifecycle.submit(job_id, INPUT, options.from_dict(chosen), owner)
    return job_id


def report(job_id: str, token: str, state: str, result: Any) -> None:
    app.backend.store_result(job_id, result, state, request=Request(token))


def run_to_end(job_id: str, outcome: Outcome = OUTCOME) -> None:
    assert leases.acquire(job_id, "worker", "worker") is not None
    report(job_id, "worker", "SUCCESS", outcome.to_dict())


def test_a_submitted_job_waits_in_the_queue_with_its_message(service: redis.Redis) -> None:
    job_id = submit(languages=["deu"])

    job = lifecycle.read(job_id)

    assert (job.state, job.stage, job.queue_position) == (State.QUEUED, Stage.QUEUED, 1)
    assert job.input == INPUT
    assert job.options["languages"] == ["deu"]
    message = json.loads(service.lindex(QUEUES["normal"], 0))
    assert message["headers"]["id"] == job_id
    assert message["headers"]["task"] == "ocr_tasks.tasks.ocr_document"


def test_a_job_that_could_not_be_stored_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets an error, and sends its request again."""

    def fail(*_: object) -> None:
        raise errors.StorageFull

    def send() -> lifecycle.Job:
        job_id = layout.new_id()
        upload = layout.new_upload()
        (upload / "input.pdf").write_bytes(b"%PDF-")
        layout.adopt(upload, job_id)
        request = idempotency.request("anna", "key-1", INPUT.sha256, "{}")
        return lifecycle.submit(job_id, INPUT, options.from_dict({}), "anna", request=request)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_manifest", fail)
        with pytest.raises(errors.StorageFull):
            send()
    assert lifecycle.list_jobs(None, 10, None, None).jobs == []
    assert list((settings.get().data_dir / "jobs").glob("*/*")) == []

    assert send().state is State.QUEUED
    assert len(lifecycle.list_jobs(None, 10, None, None).jobs) == 1


def test_async_result_distinguishes_a_waiting_job_from_an_unknown_one() -> None:
    job_id = submit()

    assert AsyncResult(job_id, app=app).state == "QUEUED"
    assert AsyncResult(job_id, app=app).exists()
    assert AsyncResult(layout.new_id(), app=app).state == "PENDING"
    assert not AsyncResult(layout.new_id(), app=app).exists()


@pytest.mark.parametrize(
    "job_id", ["", "x", "../../etc/passwd", "2D6C6D1C-3F0A-4A63-9D0B-5A7D0F5D2A11", "0" * 36]
)
def test_an_unknown_job_is_not_found(job_id: str) -> None:
    with pytest.raises(errors.JobNotFound):
        lifecycle.read(job_id)


def test_progress_is_the_meta_of_async_result() -> None:
    job_id = submit()
    start = leases.acquire(job_id, "worker", "worker")
    assert start is not None
    progress = dataclasses.replace(start, stage=Stage.OCR, pages_done=3, percent=41.5)

    report(job_id, "worker", "PROGRESS", progress.to_dict())

    result = AsyncResult(job_id, app=app)
    assert result.state == "PROGRESS"
    assert result.info["pages_done"] == 3
    job = lifecycle.read(job_id)
    assert (job.state, job.stage, job.progress.percent) == (State.RUNNING, Stage.OCR, 41.5)
    assert job.queue_position is None


def test_success_stores_the_outcome_and_counts() -> None:
    job_id = submit()
    run_to_end(job_id)

    job = lifecycle.read(job_id)
    assert job.state is State.SUCCEEDED
    assert job.outcome == OUTCOME
    assert job.ended_at is not None
    assert AsyncResult(job_id, app=app).get(timeout=5)["pages"] == 7
    stats = {name: float(value) for name, value in _stats().items() if "waited" not in name}
    assert stats == {
        "attempts": 1,
        "took_5.0": 1,
        "jobs_submitted": 1,
        "jobs_succeeded": 1,
        "pages": 7,
        "pages_failed": 0,
        "seconds_ocr": 2.5,
        "seconds_total": 3.0,
    }


def _stats() -> dict[str, str]:
    from ocr_tasks.redis import connection

    return dict(connection.client().hgetall(keys.STATS))


def test_a_failure_keeps_its_error_code_and_celerys_exception() -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")

    report(job_id, "worker", "FAILURE", errors.PageFailed("page 3: blurred", page=3))

    failure = lifecycle.read(job_id).failure
    assert failure is not None
    assert (failure.code, failure.page, failure.retryable) == ("page_failed", 3, True)
    assert failure.message == "page 3: blurred"
    result = AsyncResult(job_id, app=app)
    assert result.state == "FAILURE"
    assert isinstance(result.result, errors.PageFailed)


def test_an_unexpected_exception_reports_only_its_type() -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")

    report(job_id, "worker", "FAILURE", RuntimeError("/secret/path"))

    failure = lifecycle.read(job_id).failure
    assert failure is not None
    assert failure.code == "job_crashed"
    assert "secret" not in failure.message


def test_a_job_whose_process_is_killed_for_another_job_is_not_cancelled() -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")

    report(job_id, "worker", "REVOKED", errors.JobCancelled())

    assert lifecycle.read(job_id).state is State.RUNNING


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE", "REVOKED"])
@pytest.mark.parametrize("late", ["PROGRESS", "SUCCESS", "FAILURE"])
def test_a_final_state_is_written_only_once(end: str, late: str) -> None:
    job_id = submit()
    start = leases.acquire(job_id, "worker", "worker")
    assert start is not None
    values = {
        "SUCCESS": OUTCOME.to_dict(),
        "FAILURE": errors.ToolFailed("first"),
        "REVOKED": errors.JobCancelled(),
        "PROGRESS": start.to_dict(),
    }
    revoked.add(job_id)  # as Flower does
    report(job_id, "worker", end, values[end])
    before = lifecycle.read(job_id)

    if late == "PROGRESS":
        with pytest.raises(NotWritten):
            report(job_id, "worker", late, values[late])
    else:
        report(
            job_id, "worker", late, errors.ToolFailed("late") if late == "FAILURE" else values[late]
        )

    assert lifecycle.read(job_id) == before


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE"])
def test_a_write_without_a_token_after_the_end_is_ignored(end: str, service: redis.Redis) -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")
    report(job_id, "worker", end, OUTCOME.to_dict() if end == "SUCCESS" else errors.ToolFailed())
    before, counted = lifecycle.read(job_id), service.hgetall(keys.STATS)

    app.backend.mark_as_failure(job_id, TimeLimitExceeded(10))

    assert not app.backend.cancel(job_id)
    assert (lifecycle.read(job_id), service.hgetall(keys.STATS)) == (before, counted)


def test_a_write_to_a_job_that_was_deleted_while_it_ran_is_ignored(service: redis.Redis) -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")
    lifecycle.delete(job_id)
    before = service.hgetall(keys.task(job_id))

    app.backend.mark_as_failure(job_id, TimeLimitExceeded(10))
    report(job_id, "worker", "SUCCESS", OUTCOME.to_dict())

    assert not app.backend.cancel(job_id)
    assert service.hgetall(keys.task(job_id)) == before


def test_an_existing_record_is_not_replaced(service: redis.Redis) -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")
    before = service.hgetall(keys.task(job_id))

    assert not retention.restore(job_id)

    assert service.hgetall(keys.task(job_id)) == before
    assert lifecycle.counts()[State.QUEUED] == 0


def test_a_cancelled_job_cannot_be_acquired() -> None:
    job_id = submit()
    cancelled = lifecycle.cancel(job_id)

    assert cancelled.state is State.CANCELLED
    assert leases.acquire(job_id, "worker", "worker") is None
    assert AsyncResult(job_id, app=app).state == "REVOKED"
    with pytest.raises(errors.JobEnded):
        lifecycle.cancel(job_id)


def test_a_cancelled_running_job_is_asked_to_stop() -> None:
    job_id, other = submit(), submit()
    leases.acquire(job_id, "worker", "worker")
    leases.acquire(other, "worker", "worker")
    lifecycle.cancel(job_id)

    assert leases.ended([job_id, other]) == {job_id}


def test_a_retry_is_a_new_attempt_of_the_same_job() -> None:
    job_id = submit()
    leases.acquire(job_id, "worker", "worker")
    report(job_id, "worker", "FAILURE", errors.ToolFailed())

    job = lifecycle.retry(job_id)

    assert (job.state, job.attempt, job.progress.percent) == (State.QUEUED, 2, 0.0)
    assert job.failure is None
    with pytest.raises(errors.JobNotRetryable):
        lifecycle.retry(job_id)


def test_a_job_that_succeeded_without_errors_is_not_retried() -> None:
    job_id = submit()
    run_to_end(job_id)

    with pytest.raises(errors.JobNotRetryable):
        lifecycle.retry(job_id)


def test_a_retry_needs_the_document() -> None:
    job_id = submit()
    lifecycle.cancel(job_id)
    layout.delete(job_id)

    with pytest.raises(errors.ResultGone):
        lifecycle.retry(job_id)


def test_deleting_a_job_deletes_its_files() -> None:
    job_id = submit()
    folder = layout.job(job_id).path
    assert folder.exists()

    lifecycle.delete(job_id)
    lifecycle.delete(job_id)

    with pytest.raises(errors.JobDeleted):
        lifecycle.read(job_id)
    assert not folder.exists()
    assert lifecycle.list_jobs().jobs == []
    assert leases.acquire(job_id, "worker", "worker") is None
    assert leases.is_deleted(job_id)


def test_a_tombstone_expires(service: redis.Redis) -> None:
    job_id = submit()
    assert service.ttl(keys.task(job_id)) == -1
    lifecycle.delete(job_id)

    assert 0 < service.ttl(keys.task(job_id)) <= settings.get().tombstone_seconds


def test_the_list_is_newest_first_and_is_paged_without_gaps() -> None:
    made = [submit() for _ in range(25)]

    seen: list[str] = []
    cursor = None
    while True:
        found = lifecycle.list_jobs(limit=7, cursor=cursor)
        seen += [job.id for job in found.jobs]
        cursor = found.next_cursor
        if cursor is None:
            break

    assert seen == made[::-1]


def test_jobs_of_the_same_moment_are_paged_without_gaps(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment)
    made = {submit() for _ in range(9)}

    first = lifecycle.list_jobs(limit=4)
    second = lifecycle.list_jobs(limit=4, cursor=first.next_cursor)
    third = lifecycle.list_jobs(limit=4, cursor=second.next_cursor)

    shown = [job.id for page in (first, second, third) for job in page.jobs]
    assert len(shown) == 9
    assert set(shown) == made
    assert third.next_cursor is None


def test_the_list_filters_by_state() -> None:
    waiting, done = submit(), submit()
    run_to_end(done)

    assert [job.id for job in lifecycle.list_jobs(State.SUCCEEDED).jobs] == [done]
    assert [job.id for job in lifecycle.list_jobs(State.QUEUED).jobs] == [waiting]
    assert lifecycle.counts()[State.SUCCEEDED] == 1


@pytest.mark.parametrize("cursor", ["nonsense", "!!!", "MTIz" * 20, "MTp4", "eDp4"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(errors.MalformedRequest):
        lifecycle.list_jobs(cursor=cursor)


def test_queue_positions_move_up() -> None:
    first, second, third = submit(), submit(), submit()
    assert [lifecycle.read(job).queue_position for job in (first, second, third)] == [1, 2, 3]

    leases.acquire(first, "worker", "worker")
    lifecycle.cancel(second)

    assert lifecycle.read(third).queue_position == 1


def test_a_full_queue_refuses_and_stores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_QUEUE_MAX", "2")
    settings.clear()
    submit()
    submit()

    with pytest.raises(errors.QueueFull) as refused:
        submit()
    with pytest.raises(errors.QueueFull):
        lifecycle.check_queue()

    assert refused.value.retry_after >= 1
    assert len(lifecycle.list_jobs().jobs) == 2
    assert len(list((settings.get().data_dir / "jobs").glob("*/*"))) == 2


def test_the_delay_until_a_place_is_free_depends_on_the_duration_of_jobs() -> None:
    for _ in range(2):
        run_to_end(submit(), dataclasses.replace(OUTCOME, seconds={"total": 60.0}))
    worker_registry.announce(WorkerInfo("one", 4, ["eng"]))

    assert lifecycle.estimate_retry_after() == 60 / 4 + 1


def test_a_job_whose_message_cannot_be_sent_waits_for_recovery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(app, "send_task", refuse)
    job_id = submit()

    assert lifecycle.read(job_id).state is State.QUEUED


def test_nothing_is_left_of_a_job_that_redis_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(connection, "run", refuse)
    with pytest.raises(errors.QueueUnavailable):
        submit()

    assert lifecycle.list_jobs().jobs == []
    assert list((settings.get().data_dir / "jobs").glob("*/*")) == []


def test_an_owners_jobs_are_hidden_from_others() -> None:
    mine, theirs = submit(owner="me"), submit(owner="them")
    run_to_end(mine)

    assert lifecycle.read(mine, "me").owner == "me"
    for change in (lifecycle.read, lifecycle.cancel, lifecycle.retry, lifecycle.delete):
        with pytest.raises(errors.JobNotFound):
            change(theirs, "me")
    assert [job.id for job in lifecycle.list_jobs(owner="me").jobs] == [mine]
    assert [job.id for job in lifecycle.list_jobs(State.QUEUED, owner="them").jobs] == [theirs]
    assert lifecycle.list_jobs(State.QUEUED, owner="me").jobs == []
    assert [job.id for job in lifecycle.list_jobs().jobs] == [theirs, mine]

    lifecycle.delete(mine, "me")
    assert lifecycle.list_jobs(owner="me").jobs == []
    with pytest.raises(errors.JobNotFound):
        lifecycle.read(mine, "them")


def test_waiting_ends_with_the_next_change() -> None:
    job_id = submit()
    before = lifecycle.read(job_id)
    changed: list[int] = []
    waiter = threading.Thread(
        target=lambda: changed.append(lifecycle.wait(job_id, before.revision, 30).revision)
    )
    waiter.start()
    leases.acquire(job_id, "worker", "worker")
    waiter.join(20)

    assert changed == [before.revision + 1]


def test_waiting_for_a_past_change_returns_at_once() -> None:
    job_id = submit()
    revision = lifecycle.read(job_id).revision
    leases.acquire(job_id, "worker", "worker")

    assert lifecycle.wait(job_id, revision, 30).state is State.RUNNING


def test_waiting_ends_after_its_timeout() -> None:
    job_id = submit()
    job = lifecycle.read(job_id)

    assert lifecycle.wait(job_id, job.revision, 0.1) == job


def test_the_submitting_process_does_not_subscribe_to_the_jobs_it_submits(
    service: redis.Redis,
) -> None:
    for _ in range(3):
        submit()

    assert service.pubsub_channels() == []


def test_languages_are_those_that_every_worker_has() -> None:
    assert worker_registry.languages() == []
    worker_registry.announce(WorkerInfo("one", 2, ["deu", "eng", "fra"]))
    worker_registry.announce(WorkerInfo("two", 2, ["deu", "eng"]))
    assert worker_registry.languages() == ["deu", "eng"]

    worker_registry.unregister("one")
    worker_registry.unregister("two")

    assert worker_registry.running_workers() == []
    assert worker_registry.languages() == ["deu", "eng"]


def test_progress_survives_a_round_trip_through_json() -> None:
    progress = Progress(Stage.OCR, 1, 2, 50.5, 3.5, 1.0, 2.0)

    assert Progress.from_dict(json.loads(json.dumps(progress.to_dict()))) == progress


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.CANCELLED])
def test_a_deleted_job_is_in_no_index(state: State, service: redis.Redis) -> None:
    job_id = submit()
    if state is State.RUNNING:
        leases.acquire(job_id, "worker", "worker")
    elif state is State.CANCELLED:
        lifecycle.cancel(job_id)
    assert _indexes_with(job_id, service)

    lifecycle.delete(job_id)

    assert _indexes_with(job_id, service) == set()


def _indexes_with(job_id: str, service: redis.Redis) -> set[str]:
    sets = service.scan_iter("ocr:*", _type="zset")
    return {key for key in sets if service.zscore(key, job_id) is not None}


def test_redis_keeps_nothing_of_the_document_of_a_deleted_job(service: redis.Redis) -> None:
    job_id = submit(owner="me")
    assert INPUT.name in str(service.hgetall(keys.task(job_id)))

    lifecycle.delete(job_id)

    record = service.hgetall(keys.task(job_id))
    assert INPUT.name not in str(record)
    assert not {"job", "progress"} & record.keys()
    assert (record["state"], record["token"], record["holder"]) == ("deleted", "", "")


def test_the_deletion_of_a_job_is_announced(service: redis.Redis) -> None:
    job_id = submit()
    revision = int(service.hget(keys.task(job_id), "revision") or 0)
    with connection.subscription() as channel:
        channel.subscribe(keys.task(job_id))
        lifecycle.delete(job_id)
        announced = wait_until(lambda: channel.get_message(timeout=1))

    assert json.loads(announced["data"])["status"] == "REVOKED"
    assert service.hget(keys.task(job_id), "revision") == str(revision + 1)


def test_all_jobs_of_an_owner_are_restored_regardless_of_the_limit(service: redis.Redis) -> None:
    made = {submit(owner="me") for _ in range(3)}
    service.flushall()

    for job_id in made:
        retention.restore(job_id)

    assert {job.id for job in lifecycle.list_jobs(State.QUEUED, owner="me").jobs} == made
    assert {json.loads(row)["headers"]["id"] for row in service.lrange("ocr", 0, -1)} == made


def test_the_refusal_of_too_many_waiting_jobs_contains_the_limit() -> None:
    submit(owner="me")

    with pytest.raises(errors.LimitReached) as refused:
        lifecycle.check_queue("me", 1)

    assert (refused.value.extra["limit"], refused.value.extra["most"]) == ("waiting_jobs", 1)


def test_a_job_of_a_removed_extension_does_not_exist_for_clients() -> None:
    job_id = submit()
    connection.client().hset(keys.task(job_id), "index", "ocr:gone")
    connection.client().hdel(keys.task(job_id), "job")

    for call in (lifecycle.read, lifecycle.cancel, lifecycle.retry, lifecycle.delete):
        with pytest.raises(errors.JobNotFound):
            call(job_id)
