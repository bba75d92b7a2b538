"""The life of a job: submit, read, list, cancel, retry, delete; and what a worker does with it.

Where a function takes an `owner`, it sees the jobs of that owner only, '' meaning nobody's; with
None it sees all of them. Somebody else's job is as unknown as one that never was.

The only reader of the result backend. `AsyncResult(job_id)` shows the same to anybody else.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from redis import RedisError

from ocr_tasks import errors, keys, lanes, redis_client, settings, storage, workers
from ocr_tasks.app import app
from ocr_tasks.backend import JobBackend
from ocr_tasks.model import (
    Failure,
    Job,
    JobInput,
    JobList,
    Outcome,
    Progress,
    State,
)
from ocr_tasks.options import JobOptions


def _backend() -> JobBackend:
    backend = app.backend
    assert isinstance(backend, JobBackend)  # noqa: S101  # set in app.py; for the type checker
    return backend


# Submit


def check_queue(owner: str = "", own_max: int = 0) -> None:
    """Makes sure that one more job may wait; cheap, to be asked before an upload is read.

    `own_max`: most jobs of the owner's that may wait; 0 for no limit.

    Raises:
        errors.QueueFull: with the seconds after which a place may be free.
        errors.LimitReached: likewise, if the owner has too many waiting.
        errors.QueueUnavailable: if Redis is away.
    """
    with redis_client.errors_as_ours(), redis_client.client().pipeline(transaction=False) as pipe:
        pipe.zcard(keys.jobs_in(State.QUEUED))
        pipe.zcard(keys.jobs_in(State.QUEUED, owner))
        waiting, own = pipe.execute()
    if waiting >= settings.get().queue_max:
        raise _queue_full()
    if own_max and own >= own_max:
        raise _own_queue_full(own_max)


def submit(
    job_id: str, job_input: JobInput, options: JobOptions, owner: str = "", own_max: int = 0
) -> Job:
    """Makes a job of a document that lies in its folder, and queues it.

    The record is made before the message is published, so a known id never reads as unknown. If
    either fails, neither the record nor the files stay. `own_max`: as in `check_queue`.

    Raises:
        errors.QueueFull, errors.LimitReached, errors.QueueUnavailable
    """
    chosen = options.model_dump(mode="json")
    record = {"input": dataclasses.asdict(job_input), "options": chosen, "owner": owner}
    try:
        with redis_client.errors_as_ours():
            answer = _backend().create(job_id, record, settings.get().queue_max, own_max)
            if answer == -2:
                raise _own_queue_full(own_max)
            if answer != 1:
                raise _queue_full()
            lanes.publish(job_id, chosen)
    except errors.ServiceError:
        _take_back(job_id, owner)
        raise
    return read(job_id)


def _take_back(job_id: str, owner: str) -> None:
    storage.delete(job_id)
    # Where Redis is away, it may not have taken the record in the first place.
    with suppress(RedisError):
        _backend().forget_unpublished(job_id, owner)


def _queue_full() -> errors.QueueFull:
    return errors.QueueFull(retry_after=seconds_until_place())


def _own_queue_full(most: int) -> errors.LimitReached:
    return errors.LimitReached("waiting_jobs", most, seconds_until_place())


def seconds_until_place() -> int:
    """Seconds after which the queue has moved by one: a job's mean time over the processes."""
    with redis_client.errors_as_ours():
        names = ["seconds_total", "jobs_succeeded"]
        total, ended = redis_client.client().hmget(keys.STATS, names)
    mean = float(total or 0) / float(ended) if ended else 30.0
    processes = sum(worker.processes for worker in workers.living())
    return max(1, min(3600, round(mean / max(1, processes)) + 1))


# Read


def read(job_id: str, owner: str | None = None) -> Job:
    """The job.

    Raises:
        errors.JobNotFound, errors.JobDeleted, errors.QueueUnavailable
    """
    if not storage.is_id(job_id):
        raise errors.JobNotFound()
    with redis_client.errors_as_ours():
        ((record, rank),) = _backend().records([job_id])
    if not record or not (owner is None or record.get("suffix") == keys.owned_by(owner)):
        raise errors.JobNotFound()
    if record["state"] == "deleted":
        raise errors.JobDeleted()
    return _job(job_id, record, rank)


def wait(job_id: str, revision: int, seconds: float, owner: str | None = None) -> Job:
    """The job as soon as its revision differs from the one given, at the latest after `seconds`.

    Raises:
        errors.JobNotFound, errors.JobDeleted, errors.QueueUnavailable
    """
    job = read(job_id, owner)
    deadline = time.monotonic() + seconds
    if job.revision != revision or seconds <= 0:
        return job
    with redis_client.errors_as_ours(), redis_client.subscription() as channel:
        channel.subscribe(keys.task(job_id))
        job = read(job_id)  # what happened before the subscription
        while job.revision == revision and (left := deadline - time.monotonic()) > 0:
            # A place in the queue changes without an event of the job's own.
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
    """Jobs, newest first, at most `limit`, those after the cursor.

    Raises:
        errors.MalformedRequest: if the cursor is none of ours.
        errors.QueueUnavailable
    """
    index = keys.jobs_in(state, owner)
    before = _decode_cursor(cursor) if cursor else None
    with redis_client.errors_as_ours():
        # A few more than asked for, as jobs of one microsecond stand on both sides of a cursor.
        rows: list[tuple[str, float]] = redis_client.client().zrevrangebyscore(  # type: ignore[assignment]
            index, before[0] if before else "+inf", "-inf", 0, limit + 11, withscores=True
        )
        if before:
            rows = [(job_id, score) for job_id, score in rows if (score, job_id) < before]
        shown = rows[:limit]
        records = _backend().records([job_id for job_id, _ in shown])
    jobs = [
        _job(job_id, record, rank)
        for (job_id, _), (record, rank) in zip(shown, records, strict=True)
        if record.get("job")  # deleted in between
    ]
    more = len(rows) > limit
    return JobList(jobs, _encode_cursor(shown[-1]) if more else None)


def _encode_cursor(row: tuple[str, float]) -> str:
    return base64.urlsafe_b64encode(f"{int(row[1])}:{row[0]}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> tuple[float, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        score, _, job_id = base64.urlsafe_b64decode(padded).decode().partition(":")
        if storage.is_id(job_id):
            return float(int(score)), job_id
    except (ValueError, binascii.Error):
        pass
    raise errors.MalformedRequest("the cursor is not one of this service")


def _job(job_id: str, record: dict[str, str], rank: int | None) -> Job:
    meta = json.loads(record["meta"])
    job = json.loads(record["job"])
    state = State(record["state"])
    progress = Progress.from_dict(json.loads(record["progress"]))
    result = meta["result"]
    return Job(
        id=job_id,
        state=state,
        revision=int(record["revision"]),
        attempt=int(record["attempt"]),
        created_at=float(record["created"]),
        input=JobInput(**job["input"]),
        options=job["options"],
        progress=progress,
        owner=job.get("owner", ""),
        started_at=progress.started_at,
        ended_at=datetime.fromisoformat(meta["date_done"]).timestamp() if state.final else None,
        queue_position=rank + 1 if state is State.QUEUED and rank is not None else None,
        outcome=Outcome.from_dict(result) if state is State.SUCCEEDED else None,
        failure=_failure(result) if state in (State.FAILED, State.CANCELLED) else None,
    )


def _failure(result: dict[str, Any]) -> Failure:
    return Failure(result["code"], result["exc_message"][0], result["retryable"], result["page"])


# Change


def cancel(job_id: str, owner: str | None = None) -> Job:
    """Ends a job that waits or runs as cancelled; its worker kills what runs for it.

    Raises:
        errors.JobEnded: if it has ended before.
        errors.JobNotFound, errors.JobDeleted, errors.QueueUnavailable
    """
    job = read(job_id, owner)
    with redis_client.errors_as_ours():
        if job.state.final or not _backend().cancel(job_id):
            raise errors.JobEnded()
    return read(job_id)


def retry(job_id: str, owner: str | None = None, own_max: int = 0) -> Job:
    """Queues a job that has ended again. Pages that were read are not read again.

    Raises:
        errors.JobNotRetryable: if it runs, or succeeded in full.
        errors.ResultGone: if its input is no longer there.
        errors.QueueFull, errors.LimitReached: as `check_queue`.
        errors.JobNotFound, errors.JobDeleted, errors.QueueUnavailable
    """
    job = read(job_id, owner)
    if not job.retryable:
        raise errors.JobNotRetryable()
    if not storage.job(job_id).input.exists():
        raise errors.ResultGone("The uploaded document is no longer on storage")
    with redis_client.errors_as_ours():
        answer = _backend().requeue(job_id, settings.get().queue_max, own_max)
        if answer == 0:
            raise _queue_full()
        if answer == -3:
            raise _own_queue_full(own_max)
        if answer < 0:
            raise errors.JobNotRetryable()
        try:
            lanes.publish(job_id, job.options)
        except errors.QueueUnavailable:
            _backend().cancel(job_id)  # without its message it would wait for ever
            raise
    return read(job_id)


def delete(job_id: str, owner: str | None = None) -> None:
    """Deletes a job, its files and its record; one that runs is cancelled first.

    Deleting what is deleted is fine.

    Raises:
        errors.JobNotFound, errors.QueueUnavailable
    """
    try:
        read(job_id, owner)
    except errors.JobDeleted:
        return
    with redis_client.errors_as_ours():
        _backend().remove(job_id, settings.get().tombstone_seconds)
    storage.delete(job_id)


# The worker's side


def claim(job_id: str, token: str) -> Progress | None:
    """Makes a job this worker's: only writes with this token count from now on.

    Returns the progress to go on from, or None if nothing is to be done: the job has ended or was
    deleted while its message waited.
    """
    try:
        job = read(job_id)
    except (errors.JobNotFound, errors.JobDeleted):
        return None
    now = time.time()
    # A job that goes on where another run of it stopped must not be seen going back.
    progress = dataclasses.replace(
        job.progress,
        pages_total=job.input.pages,
        eta_seconds=None,
        started_at=job.started_at or now,
        updated_at=now,
    )
    return progress if _backend().claim(job_id, token, progress) else None


def ended(job_ids: Sequence[str]) -> set[str]:
    """Those of the jobs that have ended or were deleted: nothing should run for them any more."""
    with redis_client.client().pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hget(keys.task(job_id), "state")
        states = pipe.execute()
    running = (State.QUEUED, State.RUNNING)
    return {job_id for job_id, state in zip(job_ids, states, strict=True) if state not in running}


def deleted(job_id: str) -> bool:
    """Whether the job was deleted, or never was."""
    state = redis_client.client().hget(keys.task(job_id), "state")
    return state in (None, "deleted")


def counts() -> dict[State, int]:
    """How many jobs are in each state.

    Raises:
        errors.QueueUnavailable
    """
    with redis_client.errors_as_ours(), redis_client.client().pipeline(transaction=False) as pipe:
        for state in State:
            pipe.zcard(keys.jobs_in(state))
        return dict(zip(State, pipe.execute(), strict=True))
