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
from ocr_tasks.jobs.idempotency import Repeatable
from ocr_tasks.model import CELERY_STATES, Outcome, Progress, State
from ocr_tasks.redis import connection, counters, keys

#: Times that the end of a job is tried to be written, about one second apart.
_END_TRIES = 600


class NotWritten(Exception):
    """A worker's progress was refused: the job has ended, or belongs to another worker by now."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job starts with, ready for JSON. `created` is in seconds since the epoch."""

    id: str
    input: dict[str, Any]
    options: dict[str, Any]
    owner: str
    created: float
    callback: dict[str, str] | None = None

    @property
    def lane(self) -> str:
        """Where its message goes."""
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
    """Pairs of a counter's name and what the end of a job adds to it."""
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
    """The store of all jobs, in the shape that Celery's clients and Flower expect."""

    def _create_client(self, **params: Any) -> redis.Redis:
        return connection.client()

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
        main process, which reports a time limit, has none and needs none. What it reports of a
        child that died is not written: the job is given back (`worker`).
        """
        if state == ABORTED:
            # Somebody asks for its end, such as Flower: workers see to it (`control`).
            self.app.control.revoke(task_id)
        ours = CELERY_STATES.get(state)
        if ours is None or (ours is State.FAILED and result["code"] == errors.WorkerLost.code):
            return result
        if ours is State.CANCELLED and task_id not in revoked:
            # Nobody asked for that: its process was killed for another job, and it is given back.
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
        # An end is worth trying again while Redis is away; a progress is not.
        write = ("write", keys.job(job_id), args)
        return bool(self.ensure(connection.run, write, max_retries=_END_TRIES) == 1)

    # What `jobs` calls

    def create(
        self, new: NewJob, queue_max: int, own_max: int, request: Repeatable | None
    ) -> str | int:
        """Makes a job in the state queued, and gives its id.

        Where the client has sent the same request before, that job's id; -1 if there is a job of
        this id, 0 if the queue is full, -2 if too many of the owner's jobs wait (`own_max`, 0 for
        no limit).
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
            args += [request.remembered(new.id), str(settings.get().idempotency_seconds)]
        answer = connection.run("create", names, args)
        if isinstance(answer, str) and request:
            return request.job_of(answer)
        return new.id if answer == 1 else int(answer)

    def claim(self, job_id: str, token: str, holder: str, progress: Progress) -> bool:
        """Makes a job run, in the name of `token`, with a lease. False: it does not wait."""
        meta = self.encode_meta(job_id, "PROGRESS", progress.to_dict())
        lease = settings.get().lease_seconds
        args: list[str | float] = [job_id, token, holder, lease, meta]
        args += [json.dumps(progress.to_dict()), *counters.WAIT_BOUNDS]
        return bool(connection.run("claim", keys.job(job_id), args) == 1)

    def renew(self, holders: Mapping[str, str]) -> None:
        """Renews the leases of jobs, by their ids, for those who still hold them."""
        names = [keys.LEASES, *map(keys.task, holders)]
        pairs = [text for pair in holders.items() for text in pair]
        connection.run("renew", names, [settings.get().lease_seconds, *pairs])

    def give_back(self, job_id: str, holder: str, lane: str, progress: Progress, lost: bool) -> int:
        """Puts a job that runs back among those that wait: 1 done, 2 failed instead, 0 not.

        `holder` is '' where its lease has run out. `lost`: its worker was lost with it; a job that
        has cost too many workers fails.
        """
        failure = self.prepare_exception(errors.WorkerLost())
        meta = self.encode_meta(job_id, "QUEUED", progress.to_dict())
        failed = self.encode_meta(job_id, states.FAILURE, failure)
        most = settings.get().losses_max if lost else 0
        args: list[str | float] = [job_id, holder, lane, meta, most, failed]
        args += _counters(State.FAILED, failure)
        return int(connection.run("give_back", keys.job(job_id), args))

    def commit(self, job_id: str, token: str, outcome: Outcome) -> bool:
        """Ends a job as succeeded. False: it is not this run's any more, or has ended."""
        result = outcome.to_dict()
        meta = self.encode_meta(job_id, states.SUCCESS, result)
        return self._end(job_id, token, State.SUCCEEDED, meta, result)

    def end(self, job_id: str, state: State, result: dict[str, Any]) -> None:
        """Ends a job as an earlier record of it had ended: with what Celery kept of that."""
        celery_state = next(name for name, ours in CELERY_STATES.items() if ours is state)
        self._end(job_id, "", state, self.encode_meta(job_id, celery_state, result), result)

    def finish(self, job_id: str, token: str, state: State, result: Any) -> bool:
        """Ends an extension's job; returns False if it is no longer this run's, or has ended."""
        celery_state = next(name for name, ours in CELERY_STATES.items() if ours is state)
        meta = self.encode_meta(job_id, celery_state, result)
        return self._end(job_id, token, state, meta, result)

    def cancel(self, job_id: str) -> bool:
        """Ends a job as cancelled. False: it has ended before."""
        failure = self.prepare_exception(errors.JobCancelled())
        meta = self.encode_meta(job_id, states.REVOKED, failure)
        args = [job_id, "", State.CANCELLED, meta, "", *_counters(State.CANCELLED, None)]
        return bool(connection.run("write", keys.job(job_id), args) == 1)

    def again(self, job_id: str, queue_max: int, own_max: int, lane: str) -> int:
        """Makes a job that has ended wait again.

        Returns 1 done, 0 queue full, -1 no job, -2 not ended, -3 too many of the owner's jobs wait.
        """
        progress = Progress().to_dict()
        args = [job_id, self.encode_meta(job_id, "QUEUED", progress), json.dumps(progress)]
        return int(connection.run("again", keys.job(job_id), [*args, queue_max, own_max, lane]))

    def remove(self, job_id: str, tombstone_seconds: int) -> str:
        """Replaces a job by a tombstone and gives the state it had, '' if there is no such job."""
        meta = self.encode_meta(
            job_id, states.REVOKED, self.prepare_exception(errors.JobCancelled("deleted"))
        )
        return str(connection.run("remove", keys.job(job_id), [job_id, meta, tombstone_seconds]))

    def records(self, job_ids: Sequence[str]) -> list[tuple[dict[str, str], int | None]]:
        """Each job's hash (empty: none) and its place in the queue from 0, in one round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.task(job_id))
                pipe.zrank(keys.jobs_in(State.QUEUED), job_id)
            answers = pipe.execute()
        return list(zip(answers[::2], answers[1::2], strict=True))

    def encode_meta(self, job_id: str, state: str, result: Any, traceback: Any = None) -> str:
        """Returns Celery's metadata of a job as JSON."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=None)
        meta["task_id"] = job_id
        return str(self.encode(meta))
