"""The Celery tasks for documents: `ocr_document` for a job, `read_pages` for a helper."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import partial
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from kombu.exceptions import OperationalError
from redis import RedisError

from ocr_tasks import errors, extensions, failpoints, logs, options, settings
from ocr_tasks.jobs import leases, lifecycle, queues
from ocr_tasks.jobs.celery_app import OCR_DOCUMENT, READ_PAGES, app
from ocr_tasks.jobs.result_backend import NotWritten
from ocr_tasks.model import Progress, State
from ocr_tasks.pipeline import document
from ocr_tasks.plugin.context import RunContext, RunYielded
from ocr_tasks.storage import layout, store

log = logging.getLogger(__name__)


# `throws` are expected errors, which Celery logs without a traceback.
@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    bind=True, name=OCR_DOCUMENT, throws=(errors.JobError,), resultrepr_maxsize=100
)
def ocr_document(self: Task, job_id: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Runs OCR on the document of a job. The id of the task is the id of the job.

    `AsyncResult(job_id)` shows a `model.Progress` as the meta of the running task, a
    `model.Outcome` as its result, and an `errors.JobError` as its failure.
    """
    try:
        with logs.about(job_id, process=True):
            return _run(self, job_id, requested)
    except errors.JobError as error:
        leases.record_failure(job_id, error)
        _delete_if_deleted(job_id)
        raise
    except NotWritten:
        _delete_if_deleted(job_id)
        raise Ignore from None  # the job was cancelled or deleted, or another worker holds it
    except (RedisError, errors.ServiceError) as error:
        # Not caused by the document: Redis cannot be reached, or this worker has no disk space. The
        # recovery thread will send the message of the job again.
        log.warning("leaving job %s to other workers: %s", job_id, error)
        raise Ignore from None


def _report_cancelled(task: Task, job_id: str) -> None:
    """Sends an event for a job that was cancelled while it waited, which Flower depends on."""
    if leases.states([job_id])[job_id] in (State.CANCELLED, "deleted"):
        with suppress(OperationalError):
            queues.send_event(task, "task-revoked", terminated=False, signum=None, expired=False)


def _delete_if_deleted(job_id: str) -> None:
    """Deletes the files that a run has written for a job that was deleted in the meantime."""
    with suppress(RedisError):
        if leases.is_deleted(job_id):
            store.get().delete(job_id)


def _run(task: Task, job_id: str, requested: dict[str, Any]) -> dict[str, Any]:
    store.get().check_space()
    run_id = layout.new_id()
    holder = leases.holder(os.getppid(), os.getpid())
    start = leases.acquire(job_id, run_id, holder)
    if start is None:
        # The job is already running, or was cancelled or deleted while it waited.
        _report_cancelled(task, job_id)
        raise Ignore
    failpoints.hit("after_claim")
    task.request.fencing_token = run_id

    def report(progress: Progress) -> None:
        with suppress(RedisError):  # processing continues while Redis cannot be reached
            task.update_state(state="PROGRESS", meta=progress.to_dict())

    try:
        selected = options.from_dict(requested)
        threads = document.page_threads(lifecycle.counts()[State.RUNNING])
        lane = queues.for_helpers(selected.priority)
        helpers = partial(queues.call_helpers, job_id, lane) if settings.get().helpers_max else None
        turn = queues.Turn(selected.priority)
        remote = extensions.remote_pages(selected.engine)
        if remote and remote.first:
            helpers = None
        with store.get().at_work(job_id) as files:
            kept = files.page_stored

            def hand_back(number: int) -> None:
                files.store_now(number)
                leases.release(job_id, holder)

            worker = RunContext(report, threads, helpers, turn.is_over, remote, kept, hand_back)
            outcome = document.run(job_id, run_id, selected, start, worker)
            for extension in extensions.installed():
                outcome = extension.deliver(job_id, outcome)
    except RunYielded:
        leases.release(job_id, holder)
        raise Ignore from None
    except (errors.StorageFull, errors.StorageUnavailable):
        # No worker acquires it again before storage is available (`check_space`).
        leases.release(job_id, holder)
        raise
    failpoints.hit("before_commit")
    if not leases.commit(job_id, run_id, outcome):
        store.get().remove(job_id, f"runs/{run_id}/")
        raise Ignore
    failpoints.hit("after_commit")
    files.settle()
    # When the task returns, Celery writes the result again, which does nothing.
    return outcome.to_dict()


@app.task(name=READ_PAGES, ignore_result=True)  # type: ignore[untyped-decorator]
def read_pages(job_id: str, lane: str, batch: str) -> None:
    """Processes pages of a document that another process owns.

    If other messages wait after a page, the task sends its message again, to the end of its queue.
    """

    def is_over() -> bool:
        return queues.stopping() or queues.has_waiting()

    with logs.about(job_id, process=True):
        more = document.help_with(job_id, batch, is_over)
    if more:
        queues.call_helpers(job_id, lane, batch, 1)
