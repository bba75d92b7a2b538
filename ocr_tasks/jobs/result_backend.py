"""Celery's result backend with atomic writes.

`AsyncResult(job_id)` returns what `update_state` and the end of a task write here. Celery's own
Redis backend reads, decides and writes in several steps, so late progress can overwrite a failure.
It also cannot distinguish a waiting job from an unknown id. Here each job is one hash, created when
the job is submitted, and each write is one Lua script that
  - never changes a final state,
  - rejects writes of a worker that no longer holds the job (fencing token),
  - updates the indexes of jobs by state and the counters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from billiard.exceptions import (
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery import states
from celery.backends.redis import RedisBackend
from celery.contrib.abortable import ABORTED
from celery.exceptions import TaskRevokedError
from celery.worker.state import revoked

from ocr_tasks import errors, settings
from ocr_tasks.jobs.idempotency import RequestIdentity
from ocr_tasks.model import CELERY_STATES, Outcome, Progress, State
from ocr_tasks.redis import connection, counters, keys

#: Attempts to write the end of a job, about one second apart.
_END_ATTEMPTS = 600


class NotWritten(Exception):
    """A worker's progress was rejected: the job has ended, or another worker holds it."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to create, with values that JSON can represent.

    `created` is in seconds since the epoch.
    """

    id: str
    input: dict[str, Any]
    options: dict[str, Any]
    owner: str
    created: float
    callback: dict[str, str] | None = None

    @property
    def lane(self) -> str:
        """The queue of its message, a key of `celery_app.QUEUES`."""
        return str(self.options["priority"])


def _as_job_error(exc: BaseException) -> errors.JobError:
    if isinstance(exc, errors.JobError):
        return exc
    known: list[tuple[tuple[type[BaseException], ...], type[errors.JobError]]] = [
        ((TimeLimitExceeded, SoftTimeLimitExceeded), errors.JobTimeout),
        ((TaskRevokedError,), errors.JobCancelled),
        ((WorkerLostError, Terminated), errors.WorkerLost),
        ((MemoryError,), errors.JobOutOfMemory),
    ]
    for classes, error in known:
        if isinstance(exc, classes):
            return error()
    return errors.JobCrashed(f"{errors.JobCrashed.title} ({type(exc).__name__})")


def _counters(state: State, result: Any) -> list[str | float]:
    """Returns pairs of a counter's name and its increment at the end of a job."""
    if not state.final:
        return []
    pairs: list[str | float] = [f"jobs_{state}", 1]
    if state is State.FAILED:
        pairs += [f"failed_{result['code']}", 1]
    if state is State.SUCCEEDED and "artifacts" in result:
        outcome = Outcome.from_dict(result)
        pairs += ["pages", outcome.pages, "pages_failed", len(outcome.failed_pages)]
        for stage, seconds in outcome.seconds.items():
            pairs += [f"seconds_{stage}", seconds]
        pairs += [
            f"took_{counters.bound(counters.DURATION_BOUNDS, outcome.seconds.get('total', 0))}",
            1,
        ]
    return pairs


class JobBackend(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """The store of all jobs, readable by Celery's clients and Flower."""

    def _create_client(self, **params: Any) -> redis.Redis:
        return connection.client()

    # Called by Celery

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Does nothing. Celery would subscribe the submitting process to each job's channel."""

    def get(self, key: str | bytes) -> str | None:
        return self.mget([key])[0]

    def mget(self, keys: Sequence[str | bytes]) -> list[str | None]:
        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "meta")
            return list(pipe.execute())

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Returns an exception in Celery's format, plus `code`, `retryable` and `page`."""
        error = _as_job_error(exc)
        return {
            "exc_type": type(error).__name__,
            "exc_message": [error.detail],
            "exc_module": type(error).__module__,
            "code": error.code,
            "retryable": error.retryable,
            "page": error.page,
        }

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Writes a state that Celery reports.

        The fencing token is an attribute of the task's request, which `worker.tasks` sets after it
        has acquired the job. Celery's main process, which reports time limits, writes without a
        token. Its reports of children that died are ignored, because the maintenance thread of the
        worker requeues their jobs (`worker.maintenance`).
        """
        if state == ABORTED:
            # A client such as Flower aborts the job. Workers cancel it (`worker.remote_control`).
            self.app.control.revoke(task_id)
        ours = CELERY_STATES.get(state)
        if ours is None or (ours is State.FAILED and result["code"] == errors.WorkerLost.code):
            return result
        if ours is State.CANCELLED and task_id not in revoked:
            # It was not cancelled. Its process was killed, and the job is requeued.
            return result
        token = getattr(request, "fencing_token", None) or ""
        meta = self.encode_meta(task_id, state, result, traceback)
        if ours is State.RUNNING:
            args = [task_id, token, ours, meta, json.dumps(result)]
            if connection.run("write", keys.job(task_id), args) != 1:
                raise NotWritten(task_id)
        else:
            self._end(task_id, token, ours, meta, result)
        return result

    def _end(self, job_id: str, token: str, state: State, meta: str, result: Any) -> bool:
        args = [job_id, token, state, meta, "", *_counters(state, result)]
        # Retried while Redis cannot be reached, unlike writes of progress.
        write = ("write", keys.job(job_id), args)
        return bool(self.ensure(connection.run, write, max_retries=_END_ATTEMPTS) == 1)

    # Called by the modules of `jobs`

    def create(
        self, new: NewJob, queue_max: int, own_max: int, request: RequestIdentity | None
    ) -> str | int:
        """Creates a job in the state queued and returns its id.

        If the client has sent the same request before, returns the id of that job. Otherwise
        returns -1 if the job already exists, 0 if the queue is full, -2 if `own_max` jobs of the
        owner are queued (0 for no limit).
        """
        progress = Progress().to_dict()
        record = {"input": new.input, "options": new.options, "owner": new.owner}
        if new.callback:
            record["callback"] = new.callback
        args = [new.id, self.encode_meta(new.id, "QUEUED", progress), json.dumps(record)]
        args += [json.dumps(progress), repr(new.created), keys.owned_by(new.owner), new.lane]
        args += [str(queue_max), str(own_max), new.callback["events"] if new.callback else ""]
        names = keys.job(new.id)
        if request and request.key:
            names.append(request.key)
            args += [request.stored_value(new.id), str(settings.get().idempotency_seconds)]
        result = connection.run("create", names, args)
        if isinstance(result, str) and request:
            return request.job_of(result)
        return new.id if result == 1 else int(result)

    def acquire(self, job_id: str, token: str, holder: str, progress: Progress) -> bool:
        """Starts a queued job with a fencing token and a lease.

        Returns False if the job is not queued.
        """
        meta = self.encode_meta(job_id, "PROGRESS", progress.to_dict())
        lease = settings.get().lease_seconds
        args: list[str | float] = [job_id, token, holder, lease, meta]
        args += [json.dumps(progress.to_dict()), *counters.WAIT_BOUNDS]
        return bool(connection.run("acquire", keys.job(job_id), args) == 1)

    def renew(self, holders: Mapping[str, str]) -> None:
        """Renews the leases of those of the jobs (job id to holder) that still have the holder."""
        names = [keys.LEASES, *map(keys.task, holders)]
        pairs = [text for pair in holders.items() for text in pair]
        connection.run("renew", names, [settings.get().lease_seconds, *pairs])

    def release(self, job_id: str, holder: str, lane: str, progress: Progress, lost: bool) -> int:
        """Puts a running job back into the state queued.

        `holder` is the process that holds it, '' if its lease has expired. With `lost`, a worker
        was lost with it, and the job fails after OCR_LOSSES_MAX of them.

        Returns 1 if queued, 2 if failed, 0 if it is not running or has another holder.
        """
        failure = self.prepare_exception(errors.WorkerLost())
        meta = self.encode_meta(job_id, "QUEUED", progress.to_dict())
        failed = self.encode_meta(job_id, states.FAILURE, failure)
        most = settings.get().losses_max if lost else 0
        args: list[str | float] = [job_id, holder, lane, meta, most, failed]
        args += _counters(State.FAILED, failure)
        return int(connection.run("release", keys.job(job_id), args))

    def commit(self, job_id: str, token: str, outcome: Outcome) -> bool:
        """Ends a job as succeeded; returns False if the run no longer holds it, or it has ended."""
        return self.finish(job_id, token, State.SUCCEEDED, outcome.to_dict())

    def finish(self, job_id: str, token: str, state: State, result: Any) -> bool:
        """Ends a job; returns False if the run no longer holds it, or it has ended.

        `token` is '' for a job that no run holds, e.g. one that is restored.
        """
        celery_state = next(name for name, ours in CELERY_STATES.items() if ours is state)
        meta = self.encode_meta(job_id, celery_state, result)
        return self._end(job_id, token, state, meta, result)

    def cancel(self, job_id: str) -> bool:
        """Ends a job as cancelled; returns False if it has already ended."""
        failure = self.prepare_exception(errors.JobCancelled())
        meta = self.encode_meta(job_id, states.REVOKED, failure)
        args = [job_id, "", State.CANCELLED, meta, "", *_counters(State.CANCELLED, None)]
        return bool(connection.run("write", keys.job(job_id), args) == 1)

    def retry(self, job_id: str, queue_max: int, own_max: int, lane: str) -> int:
        """Queues an ended job again.

        Returns 1 if queued, 0 if the queue is full, -1 if there is no such job, -2 if it has not
        ended, -3 if `own_max` jobs of the owner are queued.
        """
        progress = Progress().to_dict()
        args = [job_id, self.encode_meta(job_id, "QUEUED", progress), json.dumps(progress)]
        return int(connection.run("retry", keys.job(job_id), [*args, queue_max, own_max, lane]))

    def remove(self, job_id: str, tombstone_seconds: int) -> str:
        """Replaces a job by a tombstone; returns its last state, '' if there is no such job."""
        meta = self.encode_meta(
            job_id,
            states.REVOKED,
            self.prepare_exception(errors.JobCancelled("The job was deleted")),
        )
        return str(connection.run("remove", keys.job(job_id), [job_id, meta, tombstone_seconds]))

    def records(self, job_ids: Sequence[str]) -> list[tuple[dict[str, str], int | None]]:
        """Returns each job's hash, empty if unknown, and its 0-based queue position if queued.

        Takes one round trip.
        """
        with self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.task(job_id))
                pipe.zrank(keys.jobs_in(State.QUEUED), job_id)
            replies = pipe.execute()
        return list(zip(replies[::2], replies[1::2], strict=True))

    def encode_meta(self, job_id: str, state: str, result: Any, traceback: Any = None) -> str:
        """Returns Celery's metadata of a job as JSON."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=None)
        meta["task_id"] = job_id
        return str(self.encode(meta))
