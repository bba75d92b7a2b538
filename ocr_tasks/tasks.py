"""The Celery tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from redis import RedisError

from ocr_tasks import document, errors, jobs, options, storage
from ocr_tasks.app import OCR_DOCUMENT, app
from ocr_tasks.backend import NotWritten
from ocr_tasks.model import Progress, State


# `throws`: such an end is no fault of the code, so Celery logs it without a traceback.
@app.task(  # type: ignore[untyped-decorator]  # Celery has no types
    bind=True, name=OCR_DOCUMENT, throws=(errors.JobError,), resultrepr_maxsize=100
)
def ocr_document(self: Task, job_id: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Reads the document of a job. The task's id is the job's id.

    Its meta while it runs is `model.Progress`, its result `model.Outcome`, its failure an
    `errors.JobError`, all as `AsyncResult(job_id)` shows them.
    """
    run_id = storage.new_id()
    start = jobs.claim(job_id, run_id)
    if start is None:
        raise Ignore  # cancelled or deleted while it waited
    self.request.fencing_token = run_id

    def report(progress: Progress) -> None:
        with suppress(RedisError):  # the reading goes on while Redis is away
            self.update_state(state="PROGRESS", meta=progress.to_dict())

    threads = document.page_threads(jobs.counts()[State.RUNNING])
    try:
        wanted = options.from_dict(requested)
        return document.run(job_id, run_id, wanted, start, report, threads).to_dict()
    except NotWritten:
        raise Ignore from None  # cancelled, deleted, or somebody else's by now
