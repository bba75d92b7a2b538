"""The client's side of the life of a job: submit, read, list, cancel, retry, delete.

Functions with a parameter `owner` see only the jobs of that owner; '' is the owner of jobs that
were submitted without a token, and None means all owners. Jobs of other owners raise JobNotFound,
like unknown ids.

The state of a job is the same as that of `AsyncResult(job_id)`. The worker's side is in `leases`.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from redis import RedisError

from ocr_tasks import errors, extensions, failpoints, settings
from ocr_tasks.jobs import idempotency, queues, worker_registry
from ocr_tasks.jobs.celery_app import app
from ocr_tasks.jobs.idempotency import RequestIdentity
from ocr_tasks.jobs.result_backend import JobBackend, NewJob
from ocr_tasks.model import Callback, Failure, Job, JobInput, JobList, Outcome, Progress, State
from ocr_tasks.options import JobOptions
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout, store


def backend() -> JobBackend:
    """Returns Celery's result backend, which stores all jobs."""
    backend = app.backend
    assert isinstance(backend, JobBackend)  # noqa: S101  # for the type checker
    return backend


# Submit


def check_queue(owner: str = "", own_max: int = 0) -> None:
    """Raises QueueFull or LimitReached if another job cannot be queued.

    Fast enough to be called before an upload is received. `own_max` is the maximum of queued jobs
    of the owner, 0 for no limit.
    """
    with connection.translated_errors(), connection.client().pipeline(transaction=False) as pipe:
        pipe.zcard(keys.jobs_in(State.QUEUED))
        pipe.zcard(keys.jobs_in(State.QUEUED, owner))
        waiting, own = pipe.execute()
    if waiting >= settings.get().queue_max:
        raise _queue_full()
    if own_max and own >= own_max:
        raise _own_queue_full(own_max)


def submit(
    job_id: str,
    job_input: JobInput,
    options: JobOptions,
    owner: str = "",
    own_max: int = 0,
    request: RequestIdentity | None = None,
    callback: Callback | None = None,
) -> Job:
    """Creates and queues the job of a document that is stored in the job's folder.

    The record is created before the message is sent, so the id is known at once and a lost message
    is detected. If the client has sent the same request before, the earlier job is returned. If no
    job is created, the folder is deleted. `own_max` is the same as in `check_queue`.
    """
    new = NewJob(
        id=job_id,
        input=dataclasses.asdict(job_input),
        options=options.model_dump(mode="json"),
        owner=owner,
        created=time.time(),
        callback={"url": callback.url, "events": callback.events} if callback else None,
    )
    try:
        with connection.translated_errors():
            created = backend().create(new, settings.get().queue_max, own_max, request)
        if isinstance(created, int):
            raise _queue_full() if created == 0 else _own_queue_full(own_max)
    except errors.OcrTasksError:
        _discard(job_id)
        raise
    if created != job_id:
        store.get().delete(job_id)
        return read(created)
    failpoints.hit("after_record")
    try:
        store.write_manifest(job_id, dataclasses.asdict(new))
    except errors.ServiceError:
        _withdraw(job_id, request)
        raise
    queues.publish(job_id, new.input, new.options, new.lane)
    failpoints.hit("after_publish")
    if request:
        idempotency.remember_result(request, job_id)
    return read(job_id)


def find_earlier(request: RequestIdentity) -> Job | None:
    """Returns the client's job for the same request, or for the same document and options.

    Returns None if there is none, or if it is worth processing the document again.
    """
    with connection.translated_errors():
        job_id = idempotency.by_key(request)
        if job_id:
            return read(job_id)
        job_id = idempotency.by_content(request)
    try:
        job = read(job_id) if job_id else None
    except (errors.JobNotFound, errors.JobDeleted):
        return None
    return job if job and _is_reusable(job) else None


def _is_reusable(job: Job) -> bool:
    """Returns whether processing the job's document again would give nothing new."""
    if job.outcome is None:
        return not job.state.final
    if job.outcome.failed_pages:
        return False
    return store.get().has(job.id, f"runs/{job.outcome.run}/")


def _discard(job_id: str) -> None:
    """Deletes what a failed submission left behind."""
    store.get().delete(job_id)
    # If Redis cannot be reached, the record was probably not created.
    with suppress(RedisError):
        backend().remove(job_id, 0)


def _withdraw(job_id: str, request: RequestIdentity | None) -> None:
    """Removes a new job, because the client gets an error and may send its request again."""
    with suppress(RedisError):
        backend().remove(job_id, 0)
        if request and request.key:
            connection.client().delete(request.key)
        store.get().delete(job_id)


def _queue_full() -> errors.QueueFull:
    return errors.QueueFull(retry_after=estimate_retry_after())


def _own_queue_full(most: int) -> errors.LimitReached:
    return errors.LimitReached("waiting_jobs", most, estimate_retry_after())


def estimate_retry_after() -> int:
    """Estimates the seconds until the queue advances by one job, from 1 to 3600.

    It is the mean duration of succeeded jobs divided by the number of worker processes.
    """
    with connection.translated_errors():
        names = ["seconds_total", "jobs_succeeded"]
        total, ended = connection.client().hmget(keys.STATS, names)
    mean = float(total or 0) / float(ended) if ended else 30.0
    processes = sum(worker.processes for worker in worker_registry.document_workers())
    return max(1, min(3600, round(mean / max(1, processes)) + 1))


# Read


def read(job_id: str, owner: str | None = None) -> Job:
    """Returns a job of a document."""
    if not layout.is_id(job_id):
        raise errors.JobNotFound()
    with connection.translated_errors():
        ((record, rank),) = backend().records([job_id])
    if not record or not (owner is None or record["suffix"] == keys.owned_by(owner)):
        raise errors.JobNotFound()
    if "index" in record:  # a job of an extension, which may have been removed
        extension = extensions.owner_of(record)
        raise errors.JobNotFound(extension.jobs_hint if extension else "")
    if record["state"] == "deleted":
        raise errors.JobDeleted()
    return from_record(job_id, record, rank)


def wait(job_id: str, revision: int, seconds: float, owner: str | None = None) -> Job:
    """Returns the job as soon as its revision is not `revision`, or after `seconds`.

    Returns early if the job's position in the queue changes.
    """
    job = read(job_id, owner)
    deadline = time.monotonic() + seconds
    if job.revision != revision or seconds <= 0:
        return job
    with connection.translated_errors(), connection.subscription() as channel:
        channel.subscribe(keys.task(job_id))
        job = read(job_id)  # includes changes before the subscription
        while job.revision == revision and (left := deadline - time.monotonic()) > 0:
            # The position in the queue changes without a message on the job's channel.
            channel.get_message(timeout=min(left, 2.0))
            previous, job = job, read(job_id)
            if job.queue_position != previous.queue_position:
                break
    return job


def list_jobs(
    state: State | None = None,
    limit: int = 50,
    cursor: str | None = None,
    owner: str | None = None,
) -> JobList:
    """Returns at most `limit` jobs, newest first, starting after the cursor."""
    index = keys.jobs_in(state, owner)
    before = _decode_cursor(cursor) if cursor else None
    with connection.translated_errors():
        # Some more than `limit`: jobs of the same microsecond can be on both sides of the cursor.
        rows: list[tuple[str, float]] = connection.client().zrevrangebyscore(  # type: ignore[assignment]
            index, before[0] if before else "+inf", "-inf", 0, limit + 11, withscores=True
        )
        if before:
            rows = [(job_id, score) for job_id, score in rows if (score, job_id) < before]
        shown = rows[:limit]
        records = backend().records([job_id for job_id, _ in shown])
    jobs = [
        from_record(job_id, record, rank)
        for (job_id, _), (record, rank) in zip(shown, records, strict=True)
        if record.get("job")  # missing if the job was deleted in the meantime
    ]
    more = len(rows) > limit
    return JobList(jobs, _encode_cursor(shown[-1]) if more else None)


def _encode_cursor(row: tuple[str, float]) -> str:
    return base64.urlsafe_b64encode(f"{int(row[1])}:{row[0]}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[float, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        score, _, job_id = base64.urlsafe_b64decode(padded).decode().partition(":")
        if layout.is_id(job_id):
            return float(int(score)), job_id
    except (ValueError, binascii.Error):
        pass
    raise errors.MalformedRequest("The cursor is invalid")


# Change


def cancel(job_id: str, owner: str | None = None) -> Job:
    """Cancels a queued or running job. Its worker kills the processes that run for it."""
    job = read(job_id, owner)
    with connection.translated_errors():
        if job.state.final or not backend().cancel(job_id):
            raise errors.JobEnded()
    store.write_end(job_id, State.CANCELLED, backend().prepare_exception(errors.JobCancelled()))
    return read(job_id)


def retry(job_id: str, owner: str | None = None, own_max: int = 0) -> Job:
    """Queues an ended job again. Only pages without a result are processed."""
    job = read(job_id, owner)
    if not job.retryable:
        raise errors.JobNotRetryable()
    if not store.get().has(job_id, layout.INPUT):
        raise errors.ResultGone("The uploaded document is no longer stored")
    lane = job.options["priority"]
    with connection.translated_errors():
        result = backend().retry(job_id, settings.get().queue_max, own_max, lane)
    if result == 0:
        raise _queue_full()
    if result == -3:
        raise _own_queue_full(own_max)
    if result < 0:
        raise errors.JobNotRetryable()
    store.get().remove(job_id, layout.END)
    queues.publish(job_id, dataclasses.asdict(job.input), job.options, lane)
    return read(job_id)


def delete(job_id: str, owner: str | None = None) -> None:
    """Deletes a job with its files and its record. A running job is cancelled by that.

    Does nothing if the job is already deleted.
    """
    try:
        read(job_id, owner)
    except errors.JobDeleted:
        return
    with connection.translated_errors():
        backend().remove(job_id, settings.get().tombstone_seconds)
    store.get().delete(job_id)


def counts() -> dict[State, int]:
    """Returns the number of jobs in each state."""
    with connection.translated_errors(), connection.client().pipeline(transaction=False) as pipe:
        for state in State:
            pipe.zcard(keys.jobs_in(state))
        return dict(zip(State, pipe.execute(), strict=True))


# Records


def from_record(job_id: str, record: dict[str, str], rank: int | None) -> Job:
    """Returns the job of a record (`keys.TASK_PREFIX`); `rank` is its 0-based queue position."""
    meta = json.loads(record["meta"])
    fixed = json.loads(record["job"])
    state = State(record["state"])
    progress = Progress.from_dict(json.loads(record["progress"]))
    result = meta["result"]
    ended_at = datetime.fromisoformat(meta["date_done"]).timestamp() if state.final else None
    return Job(
        id=job_id,
        state=state,
        revision=int(record["revision"]),
        attempt=int(record["attempt"]),
        owner=fixed["owner"],
        callback=_callback(fixed.get("callback"), record),
        created_at=float(record["created"]),
        input=JobInput.from_dict(fixed["input"]),
        options=fixed["options"],
        progress=progress,
        started_at=progress.started_at,
        ended_at=ended_at,
        queue_position=rank + 1 if state is State.QUEUED and rank is not None else None,
        outcome=Outcome.from_dict(result) if state is State.SUCCEEDED else None,
        expires_at=_expires_at(ended_at),
        failure=_failure(result) if state in (State.FAILED, State.CANCELLED) else None,
    )


def _callback(chosen: dict[str, str] | None, record: dict[str, str]) -> Callback | None:
    if chosen is None:
        return None
    return Callback(**chosen, deliveries=tuple(json.loads(record["deliveries"])))


def _expires_at(ended_at: float | None) -> float | None:
    config = settings.get()
    limits = [keep for keep in (config.keep_results_seconds, config.keep_jobs_seconds) if keep]
    return ended_at + min(limits) if ended_at and limits else None


def _failure(result: dict[str, Any]) -> Failure:
    return Failure(result["code"], result["exc_message"][0], result["retryable"], result["page"])
