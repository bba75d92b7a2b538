"""The Celery tasks."""

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
from ocr_tasks.plugin.context import StepAside
from ocr_tasks.storage import layout, store

log = logging.getLogger(__name__)


# `throws`: such an end is no fault of the code, so Celery logs it without a traceback.
@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    bind=True, name=OCR_DOCUMENT, throws=(errors.JobError,), resultrepr_maxsize=100
)
def ocr_document(self: Task, job_id: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Reads the document of a job. The task's id is the job's id.

    Its meta while it runs is `model.Progress`, its result `model.Outcome`, its failure an
    `errors.JobError`, all as `AsyncResult(job_id)` shows them.
    """
    try:
        with logs.about(job_id, process=True):
            return _read(self, job_id, requested)
    except errors.JobError as error:
        leases.note_failure(job_id, error)
        _leave_nothing(job_id)
        raise
    except NotWritten:
        _leave_nothing(job_id)
        raise Ignore from None  # cancelled, deleted, or somebody else's by now
    except (RedisError, errors.ServiceError) as error:
        # Redis is away, or this worker has no room: nothing of that is the document's fault. The
        # reconciler finds the job, and sends its message again.
        log.warning("job %s is left to others: %s", job_id, error)
        raise Ignore from None


def _tell_of_cancelled(task: Task, job_id: str) -> None:
    """Has Flower know of a job that was cancelled while it waited: it goes by events."""
    if leases.states([job_id])[job_id] in (State.CANCELLED, "deleted"):
        with suppress(OperationalError):
            queues.send_event(task, "task-revoked", terminated=False, signum=None, expired=False)


def _leave_nothing(job_id: str) -> None:
    """Deletes what a run has written again of a job that was deleted while it ran."""
    with suppress(RedisError):
        if leases.deleted(job_id):
            store.get().delete(job_id)


def _read(task: Task, job_id: str, requested: dict[str, Any]) -> dict[str, Any]:
    store.get().check_room()
    run_id = layout.new_id()
    holder = leases.holder(os.getppid(), os.getpid())
    start = leases.claim(job_id, run_id, holder)
    if start is None:
        # It runs elsewhere, or was cancelled or deleted while it waited.
        _tell_of_cancelled(task, job_id)
        raise Ignore
    failpoints.hit("after_claim")
    task.request.fencing_token = run_id

    def report(progress: Progress) -> None:
        with suppress(RedisError):  # the reading goes on while Redis is away
            task.update_state(state="PROGRESS", meta=progress.to_dict())

    try:
        wanted = options.from_dict(requested)
        threads = document.page_threads(lifecycle.counts()[State.RUNNING])
        lane = queues.for_helpers(wanted.priority)
        helpers = partial(queues.call_helpers, job_id, lane) if settings.get().helpers_max else None
        turn = queues.Turn(wanted.priority)
        remote = extensions.remote_pages(wanted.engine)
        if remote and remote.first:
            helpers = None
        with store.get().at_work(job_id) as files:
            kept = files.page_kept
            worker = document.Worker(report, threads, helpers, turn.is_over, remote, kept)
            outcome = document.run(job_id, run_id, wanted, start, worker)
            for extension in extensions.installed():
                outcome = extension.deliver(job_id, outcome)
    except StepAside:
        leases.give_back(job_id, holder)
        raise Ignore from None
    except (errors.StorageFull, errors.StorageUnavailable):
        # Nobody takes it again before there is something to be had from storage.
        leases.give_back(job_id, holder)
        raise
    failpoints.hit("before_commit")
    if not leases.commit(job_id, run_id, outcome):
        store.get().remove(job_id, f"runs/{run_id}/")
        raise Ignore
    failpoints.hit("after_commit")
    files.settle()
    # Celery writes the result once more when the task returns, and is told that it stands.
    return outcome.to_dict()


@app.task(name=READ_PAGES, ignore_result=True)  # type: ignore[untyped-decorator]
def read_pages(job_id: str, lane: str, batch: str) -> None:
    """Reads pages of a document that another process owns.

    After each page, whoever else waits has their turn: this task goes to the end of its lane.
    """

    def is_over() -> bool:
        return queues.stopping() or queues.others_wait()

    with logs.about(job_id, process=True):
        more = document.help_out(job_id, batch, is_over)
    if more:
        queues.call_helpers(job_id, lane, batch, 1)
