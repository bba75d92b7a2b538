"""The worker's side of the life of a job: leases and fencing tokens.

One process acquires a queued job and holds it with a lease, which the maintenance thread of its
worker renews. All writes of the process carry the fencing token of its run. They are rejected once
the job is queued again or acquired by another process. A job whose lease has expired is queued
again by the recovery thread of any worker (`worker.recovery`).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

from ocr_tasks import errors, extensions, failpoints
from ocr_tasks.jobs import lifecycle, queues
from ocr_tasks.model import Outcome, Progress, State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout, store

log = logging.getLogger(__name__)

#: States of jobs that have not ended.
OPEN = (State.QUEUED, State.RUNNING)


def holder(worker: int, process: int) -> str:
    """Returns the name of a process of a worker on this host; both are given as process ids."""
    return f"{socket.gethostname()}:{worker}:{process}"


def acquire(job_id: str, token: str, holder: str) -> Progress | None:
    """Leases a queued job for OCR_LEASE_SECONDS. From then on only writes with the token succeed.

    Returns the progress to resume from, or None if the job cannot be acquired: it is already
    running, or it has ended or was deleted while its message waited.
    """
    try:
        job = lifecycle.read(job_id)
    except (errors.JobNotFound, errors.JobDeleted):
        return None
    now = time.time()
    # Keeps stage and percent of an earlier run, because progress must never decrease.
    progress = dataclasses.replace(
        job.progress,
        pages_total=job.input.pages,
        eta_seconds=None,
        started_at=job.started_at or now,
        updated_at=now,
    )
    if not lifecycle.backend().acquire(job_id, token, holder, progress):
        return None
    with suppress(errors.ServiceError):  # if storage fails, the run itself will report it
        store.get().remove(job_id, layout.END)  # written by an earlier run
    return progress


def renew(holders: Mapping[str, str]) -> None:
    """Renews the leases of jobs, given as a mapping of job id to holder."""
    if holders:
        lifecycle.backend().renew(holders)


def commit(job_id: str, token: str, outcome: Outcome) -> bool:
    """Ends a job as succeeded.

    Returns False if the run no longer holds the job. Its results are not used then.
    """
    if not lifecycle.backend().commit(job_id, token, outcome):
        return False
    store.write_end(job_id, State.SUCCEEDED, outcome.to_dict())
    return True


def record_failure(job_id: str, error: errors.JobError) -> None:
    """Writes the failure of a job to its folder, where it survives the loss of Redis."""
    store.write_end(job_id, State.FAILED, lifecycle.backend().prepare_exception(error))


def release(job_id: str, holder: str = "", lost: bool = False) -> bool:
    """Puts a running job back into the queue. The next process resumes it from its finished pages.

    `holder` is the process that holds the job; without it, the lease must have expired. `lost`
    means that the worker was lost while it held the job. The job then goes to the most urgent
    queue, and fails when this has happened OCR_LOSSES_MAX times.

    Returns whether the job was queued. False also means that it failed, is not running, or has
    another holder.
    """
    ((record, _),) = lifecycle.backend().records([job_id])
    if "job" not in record or _is_orphan(job_id, record):
        return False
    failpoints.hit("before_give_back")
    progress = Progress.from_dict(json.loads(record["progress"]))
    lane = _lane_of_next_run(record, lost)
    result = lifecycle.backend().release(job_id, holder, lane, progress, lost)
    failpoints.hit("after_give_back")
    if result == 1:
        send(job_id, record, lane)
    elif result == 2 and (extension := extensions.owner_of(record)):
        extension.publish_ready()
    elif result == 2:
        layout.delete_tree(layout.job(job_id).path / "work")  # the lost run did not delete it
        record_failure(job_id, errors.WorkerLost())
    return result == 1


def _is_orphan(job_id: str, record: Mapping[str, str]) -> bool:
    """Returns whether a job belongs to an extension that was removed. Its lease is then deleted."""
    if "index" not in record or extensions.owner_of(record):
        return False
    log.warning("job %s belongs to an extension that is not installed; ignoring it", job_id)
    with connection.client().pipeline() as pipe:
        pipe.zrem(keys.LEASES, job_id)
        pipe.zrem(keys.AWAITED, job_id)
        pipe.execute()
    return True


def _lane_of_next_run(record: dict[str, str], lost: bool) -> str:
    if extension := extensions.owner_of(record):
        return extension.queue_of(record)
    return "interactive" if lost else str(json.loads(record["job"])["options"]["priority"])


def send(job_id: str, record: Mapping[str, str], lane: str) -> None:
    """Sends the message of a job of a document or of an extension, given with its record.

    `lane` is the queue of a document; extensions choose their own.
    """
    if extension := extensions.owner_of(record):
        extension.publish(job_id, record)
    elif not _is_orphan(job_id, record):
        job = json.loads(record["job"])
        queues.publish(job_id, job["input"], job["options"], lane)


def held_by(holder: str) -> list[str]:
    """Returns the ids of the jobs that a process holds, at most one."""
    client = connection.client()
    running = cast("list[str]", client.zrange(keys.LEASES, 0, -1))
    with client.pipeline(transaction=False) as pipe:
        for job_id in running:
            pipe.hget(keys.task(job_id), "holder")
        holders = pipe.execute()
    return [job_id for job_id, name in zip(running, holders, strict=True) if name == holder]


def ended(job_ids: Sequence[str]) -> set[str]:
    """Returns the jobs that have ended or are unknown; nothing should run for them."""
    return {job_id for job_id, state in states(job_ids).items() if state not in OPEN}


def states(job_ids: Sequence[str]) -> dict[str, str | None]:
    """Returns the states of jobs by their ids, None for unknown ones."""
    with connection.client().pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hget(keys.task(job_id), "state")
        return dict(zip(job_ids, pipe.execute(), strict=True))


def is_deleted(job_id: str) -> bool:
    """Returns whether a job was deleted. A job that Redis lost was not, and will be restored."""
    return connection.client().hget(keys.task(job_id), "state") == "deleted"
