"""Celery's result backend, made a place that can be believed.

`AsyncResult(job_id)` reads here what `update_state` and the end of a task write. Celery's own Redis
backend reads, decides and writes in several steps, so that a late progress can replace a failure,
and it cannot tell a job that waits from one that never was. Here each job is one hash, made when
the job is submitted, and each write is one script that
  - keeps a final state final,
  - takes a write from a worker only while the job is that worker's (the fencing token),
  - keeps the indexes of jobs by state and the counters in step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
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
from celery.exceptions import TaskRevokedError

from ocr_tasks import errors, keys, redis_client
from ocr_tasks.model import CELERY_STATES, Outcome, Progress, State


class NotWritten(Exception):
    """A worker's progress was refused: the job has ended, or belongs to another worker by now."""


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
    """Pairs of a counter's name and what the end of a job adds to it."""
    if not state.final:
        return []
    pairs: list[str | float] = [f"jobs_{state}", 1]
    if state is State.SUCCEEDED:
        outcome = Outcome.from_dict(result)
        pairs += ["pages", outcome.pages, "pages_failed", len(outcome.failed_pages)]
        for stage, seconds in outcome.seconds.items():
            pairs += [f"seconds_{stage}", seconds]
    return pairs


class JobBackend(RedisBackend):  # type: ignore[misc]  # Celery has no types
    """The store of all jobs, in the shape that Celery's clients and Flower expect."""

    def _create_client(self, **params: Any) -> redis.Redis:
        return redis_client.client()

    # What Celery calls

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Does nothing: Celery would subscribe the submitting process to each job's channel."""

    def get(self, key: str | bytes) -> str | None:
        return self.mget([key])[0]

    def mget(self, keys: Sequence[str | bytes]) -> list[str | None]:
        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "meta")
            return list(pipe.execute())

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Celery's form of an exception, with our code beside it."""
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

        The token is found on the task's request, where `tasks` puts it after its claim. Celery's
        main process, which reports a dead child or a time limit, has none and needs none.

        Raises:
            NotWritten: if a progress is refused. An end that is refused is not worth an exception:
                what was there before holds.
            redis.RedisError: if a progress cannot be written because Redis is away.
        """
        ours = CELERY_STATES.get(state)
        if ours is None:
            return result
        token = getattr(request, "fencing_token", None) or ""
        meta = self._encode_meta(task_id, state, result, traceback)
        if ours is State.RUNNING:
            args = [task_id, token, ours, meta, json.dumps(result)]
            if redis_client.run("write", keys.job(task_id), args) != 1:
                raise NotWritten(task_id)
        else:
            # An end is worth trying again while Redis is away; a progress is not.
            args = [task_id, token, ours, meta, "", *_counters(ours, result)]
            self.ensure(redis_client.run, ("write", keys.job(task_id), args))
        return result

    # What `jobs` calls

    def create(self, job_id: str, job: dict[str, Any], queue_max: int, own_max: int = 0) -> int:
        """Makes a job in the state queued: 1 done, 0 queue full, -2 too many of the owner's wait.

        `own_max`: most jobs of the owner's that may wait; 0 for no limit.
        """
        progress = Progress().to_dict()
        args = [job_id, self._encode_meta(job_id, "QUEUED", progress), json.dumps(job)]
        args += [json.dumps(progress), repr(time.time()), str(queue_max)]
        args += [keys.owned_by(job["owner"]), str(own_max)]
        return int(redis_client.run("create", keys.job(job_id), args))

    def claim(self, job_id: str, token: str, progress: Progress) -> bool:
        """Makes the job run, in the name of `token`. False: it has ended, or never was."""
        meta = self._encode_meta(job_id, "PROGRESS", progress.to_dict())
        args = [job_id, token, meta, json.dumps(progress.to_dict())]
        return bool(redis_client.run("claim", keys.job(job_id), args) == 1)

    def cancel(self, job_id: str) -> bool:
        """Ends a job as cancelled. False: it has ended before."""
        failure = self.prepare_exception(errors.JobCancelled())
        meta = self._encode_meta(job_id, states.REVOKED, failure)
        args = [job_id, "", State.CANCELLED, meta, "", *_counters(State.CANCELLED, None)]
        return bool(redis_client.run("write", keys.job(job_id), args) == 1)

    def requeue(self, job_id: str, queue_max: int, own_max: int = 0) -> int:
        """Makes a job that has ended wait again.

        1 done, 0 queue full, -1 no job, -2 not ended, -3 too many of the owner's wait (`own_max`
        is the most, 0 for no limit).
        """
        progress = Progress().to_dict()
        args = [job_id, self._encode_meta(job_id, "QUEUED", progress), json.dumps(progress)]
        return int(redis_client.run("requeue", keys.job(job_id), [*args, queue_max, own_max]))

    def remove(self, job_id: str, tombstone_seconds: int) -> str:
        """Replaces a job by a tombstone and gives the state it had, '' if there is no such job."""
        meta = self._encode_meta(
            job_id, states.REVOKED, self.prepare_exception(errors.JobCancelled("deleted"))
        )
        return str(redis_client.run("remove", keys.job(job_id), [job_id, meta, tombstone_seconds]))

    def forget_unpublished(self, job_id: str, owner: str) -> None:
        """Takes back a job whose message could not be published, without a trace."""
        with self.client.pipeline() as pipe:
            task, *indexes, _ = keys.job(job_id)
            pipe.delete(task)
            for index in indexes:
                pipe.zrem(index, job_id)
                pipe.zrem(index + keys.owned_by(owner), job_id)
            pipe.execute()

    def records(self, job_ids: Sequence[str]) -> list[tuple[dict[str, str], int | None]]:
        """Each job's hash (empty: none) and its place in the queue from 0, in one round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.task(job_id))
                pipe.zrank(keys.jobs_in(State.QUEUED), job_id)
            answers = pipe.execute()
        return list(zip(answers[::2], answers[1::2], strict=True))

    def _encode_meta(self, job_id: str, state: str, result: Any, traceback: Any = None) -> str:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=None)
        meta["task_id"] = job_id
        return str(self.encode(meta))
