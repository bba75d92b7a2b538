"""Who has a job: the worker's side of its life.

A job that waits is claimed by one process, which holds it under a lease that its worker renews, and
writes with a fencing token that counts until the job is given to somebody else. A job whose lease
has run out is given back by whoever notices (`reconciler`).
"""

from __future__ import annotations

import dataclasses
import json
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

#: The states of jobs that have not ended.
OPEN = (State.QUEUED, State.RUNNING)


def holder(worker: int, process: int) -> str:
    """The name of a process of a worker on this host, both given by their process ids."""
    return f"{socket.gethostname()}:{worker}:{process}"


def claim(job_id: str, token: str, holder: str) -> Progress | None:
    """Makes a job this worker's, for OCR_LEASE_SECONDS: only writes with this token count now.

    Returns the progress to go on from, or None if nothing is to be done: the job runs elsewhere, or
    has ended or was deleted while its message waited.
    """
    try:
        job = lifecycle.read(job_id)
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
    if not lifecycle.backend().claim(job_id, token, holder, progress):
        return None
    with suppress(errors.ServiceError):  # what comes next will say so
        store.get().remove(job_id, layout.END)  # of a run before this one
    return progress


def renew(holders: Mapping[str, str]) -> None:
    """Renews the leases of jobs, by their ids, for the processes that hold them."""
    if holders:
        lifecycle.backend().renew(holders)


def commit(job_id: str, token: str, outcome: Outcome) -> bool:
    """Ends a job as succeeded. False: it is not this run's any more; its results do not count."""
    if not lifecycle.backend().commit(job_id, token, outcome):
        return False
    store.write_end(job_id, State.SUCCEEDED, outcome.to_dict())
    return True


def note_failure(job_id: str, error: errors.JobError) -> None:
    """Has the end of a job be known from its folder, should Redis forget it."""
    store.write_end(job_id, State.FAILED, lifecycle.backend().prepare_exception(error))


def give_back(job_id: str, holder: str = "", lost: bool = False) -> bool:
    """Puts a job that runs back on the queue, where somebody else goes on with it.

    `holder` is the process that gives it back; without one, its lease must have run out. `lost`:
    its worker was lost with it. Such a job goes first, and fails after OCR_LOSSES_MAX of them.

    False: it is not to be given back, or has failed.
    """
    ((record, _),) = lifecycle.backend().records([job_id])
    if "job" not in record:
        return False
    failpoints.hit("before_give_back")
    progress = Progress.from_dict(json.loads(record["progress"]))
    lane = _lane_of_next_run(record, lost)
    answer = lifecycle.backend().give_back(job_id, holder, lane, progress, lost)
    failpoints.hit("after_give_back")
    if answer == 1:
        send(job_id, record, lane)
    elif answer == 2 and (extension := extensions.owner_of(record)):
        extension.publish_ready()
    elif answer == 2:
        layout.discard(layout.job(job_id).path / "work")  # the last run could not do it
        note_failure(job_id, errors.WorkerLost())
    return answer == 1


def _lane_of_next_run(record: dict[str, str], lost: bool) -> str:
    if extension := extensions.owner_of(record):
        return extension.queue_of(record)
    return "interactive" if lost else str(json.loads(record["job"])["options"]["priority"])


def send(job_id: str, record: Mapping[str, str], lane: str) -> None:
    """Sends the message of a job, a document's or an extension's, given with its record."""
    if extension := extensions.owner_of(record):
        extension.publish(job_id, record)
    else:
        job = json.loads(record["job"])
        queues.publish(job_id, job["input"], job["options"], lane)


def held_by(holder: str) -> list[str]:
    """The job that a process holds, if it holds one."""
    client = connection.client()
    running = cast("list[str]", client.zrange(keys.LEASES, 0, -1))
    with client.pipeline(transaction=False) as pipe:
        for job_id in running:
            pipe.hget(keys.task(job_id), "holder")
        holders = pipe.execute()
    return [job_id for job_id, found in zip(running, holders, strict=True) if found == holder]


def ended(job_ids: Sequence[str]) -> set[str]:
    """Those of the jobs that have ended, or that nobody knows: nothing should run for them."""
    return {job_id for job_id, state in states(job_ids).items() if state not in OPEN}


def states(job_ids: Sequence[str]) -> dict[str, str | None]:
    """The states of jobs by their ids, None for those that nobody knows."""
    with connection.client().pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hget(keys.task(job_id), "state")
        return dict(zip(job_ids, pipe.execute(), strict=True))


def deleted(job_id: str) -> bool:
    """Whether the job was deleted. One that Redis has forgotten was not, and is restored."""
    return connection.client().hget(keys.task(job_id), "state") == "deleted"
