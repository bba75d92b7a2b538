"""The Celery tasks of OCR-D."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from redis import RedisError

from ocr_tasks import errors, failpoints, logs
from ocr_tasks.jobs import leases
from ocr_tasks.jobs.celery_app import app
from ocr_tasks.ocrd import work
from ocr_tasks.ocrd.queueing import RUN_PROCESSOR
from ocr_tasks.plugin.context import RunYielded
from ocr_tasks.storage import layout

log = logging.getLogger(__name__)


@app.task(  # type: ignore[untyped-decorator]
    bind=True, name=RUN_PROCESSOR, throws=(errors.JobError,), resultrepr_maxsize=100
)
def run_processor(self: Task, job_id: str) -> dict[str, Any]:
    """Runs the processor of a job. The task's id is the job's id."""
    token = layout.new_id()
    holder = leases.holder(os.getppid(), os.getpid())
    try:
        with logs.about(job_id, process=True):
            job = work.begin(job_id, token, holder)
            if job is None:
                raise Ignore  # another process runs it, or it has ended
            failpoints.hit("after_claim")
            self.request.fencing_token = token
            try:
                work.run(job, token)
            except RunYielded:
                leases.release(job_id, holder)
                raise Ignore from None
            except errors.JobError as error:
                work.fail(job, token, error)
                raise
            failpoints.hit("before_commit")
            result = work.commit(job, token)
    except (RedisError, errors.ServiceError) as error:
        log.warning("job %s is left to the recovery thread: %s", job_id, error)
        raise Ignore from None
    if result is None:
        raise Ignore
    return result
