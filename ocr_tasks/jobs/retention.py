"""Retention: deletes expired data and unreferenced files, and restores records that Redis lost.

Inputs, results and jobs expire some time after the end of the job (`OCR_KEEP_…`). A sweep of all
files deletes what requests and runs left behind that were killed, and restores the record of each
job that has a manifest but no record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from ocr_tasks import errors, extensions, settings
from ocr_tasks.jobs import lifecycle, queues
from ocr_tasks.jobs.result_backend import NewJob
from ocr_tasks.model import State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout, store
from ocr_tasks.uploads import tus

log = logging.getLogger(__name__)

#: Age in seconds from which an upload or a folder without a job is taken to be left behind by a
#: request that was killed.
_ABANDONED = 3600.0

#: Jobs per batch.
_BATCH_SIZE = 200


@dataclass
class Swept:
    """The numbers of deleted inputs, results, jobs, uploads and leftovers, and of restored jobs.

    `bytes` is the space that was freed.
    """

    inputs: int = 0
    results: int = 0
    jobs: int = 0
    uploads: int = 0
    leftovers: int = 0
    restored: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())


def expire(swept: Swept) -> None:
    """Deletes expired inputs, results and jobs; adds their numbers to `swept`."""
    config = settings.get()
    swept.inputs += _each_due(
        keys.ENDED_WITH_INPUT, config.keep_inputs_seconds, lambda job: _drop_input(job, swept)
    )
    swept.results += _each_due(
        keys.ENDED_WITH_RESULTS, config.keep_results_seconds, lambda job: _drop_results(job, swept)
    )
    swept.jobs += _each_due(keys.ENDED, config.keep_jobs_seconds, lambda job: _drop(job, swept))


def _each_due(index: str, keep: int, drop: Callable[[str], None]) -> int:
    """Calls `drop` for each job that ended more than `keep` seconds ago; returns their number.

    `keep` 0 means that they never expire.
    """
    count = 0
    client = connection.client()
    while keep:
        before = connection.now() - keep
        due: list[str] = client.zrangebyscore(index, "-inf", before, 0, _BATCH_SIZE)  # type: ignore[assignment]
        for job_id in due:
            # A job that was retried in the meantime is no longer in the index.
            if client.zrem(index, job_id):
                try:
                    drop(job_id)
                except errors.ServiceError:
                    client.zadd(index, {job_id: before}, nx=True)  # tried again later
                    raise
                count += 1
        if len(due) < _BATCH_SIZE:
            break
    return count


def _free(path: Path, swept: Swept) -> None:
    swept.bytes += layout.size(path)
    layout.delete_tree(path)


def _drop_input(job_id: str, swept: Swept) -> None:
    _remove(job_id, swept, layout.INPUT)


def _drop_results(job_id: str, swept: Swept) -> None:
    _remove(job_id, swept, "runs/", "pages/", layout.LOG)


def _remove(job_id: str, swept: Swept, *names: str) -> None:
    swept.bytes += sum(store.get().size(job_id, name) for name in names)
    store.get().remove(job_id, *names)


def _drop(job_id: str, swept: Swept) -> None:
    swept.bytes += store.get().size(job_id, "")
    lifecycle.backend().remove(job_id, settings.get().tombstone_seconds)
    store.get().delete(job_id)


def sweep(swept: Swept) -> None:
    """Checks the files of all jobs: deletes unreferenced ones, restores jobs without a record."""
    sweep_host(swept)
    _each_batch(store.get().jobs(), _sweep_jobs, swept)


def sweep_host(swept: Swept) -> None:
    """Deletes what killed requests and runs left in this host's data folder."""
    sweep_uploads(swept)
    if not store.get().in_folder:
        _each_batch((path.name for path in layout.folders()), _sweep_scratch, swept)


def sweep_uploads(swept: Swept) -> None:
    """Deletes expired uploads, and what killed requests left in this host's data folder."""
    count, size = tus.sweep()
    swept.uploads += count
    swept.bytes += size
    for upload in layout.uploads():
        if layout.age(upload) > _ABANDONED:
            _free(upload, swept)
            swept.uploads += 1


def _each_batch(
    job_ids: Iterable[str], check: Callable[[list[str], Swept], None], swept: Swept
) -> None:
    rows = iter(job_ids)
    while batch := list(islice(rows, _BATCH_SIZE)):
        check(batch, swept)


def _sweep_jobs(job_ids: list[str], swept: Swept) -> None:
    files = store.get()
    for job_id, (record, _) in zip(job_ids, lifecycle.backend().records(job_ids), strict=True):
        state = record.get("state")
        if state is None and files.has(job_id, layout.REQUEST):
            _restore(job_id, swept)
        elif state == "deleted" or (state is None and files.age(job_id) > _ABANDONED):
            swept.bytes += files.size(job_id, "")
            files.remove(job_id, "")
            swept.leftovers += 1
        elif state and State(state).final and files.in_folder:
            _sweep_leftovers(layout.job(job_id), record, swept)


def _sweep_scratch(job_ids: list[str], swept: Swept) -> None:
    """Deletes the local folders of jobs that no longer run here, if jobs are stored in a bucket."""
    for job_id, (record, _) in zip(job_ids, lifecycle.backend().records(job_ids), strict=True):
        state, folder = record.get("state"), layout.job(job_id)
        over = state == "deleted" or (state is not None and State(state).final)
        if over and extensions.owner_of(record):
            _sweep_leftovers(folder, record, swept)  # keeps the log, which exists only here
        elif layout.age(folder.path) > (settings.get().lease_seconds if over else _ABANDONED):
            _free(folder.path, swept)
            swept.leftovers += 1


def _sweep_leftovers(folder: layout.JobFolder, record: dict[str, str], swept: Swept) -> None:
    """Deletes the work folder of an ended job, and results of runs that did not end it."""
    result = json.loads(record["meta"])["result"] or {}
    leftovers = [folder.path / "work"]
    runs = folder.path / "runs"
    if runs.exists():
        leftovers += [path for path in runs.iterdir() if path.name != result.get("run")]
    for path in leftovers:
        if path.exists() and layout.age(path) > settings.get().lease_seconds:
            _free(path, swept)
            swept.leftovers += 1


def restore(job_id: str) -> bool:
    """Recreates the record of a job from its files, and queues the job if it has not ended.

    Returns False if the record exists, because another host has recreated it first.
    """
    new = NewJob(**json.loads(store.get().read(job_id, layout.REQUEST) or b""))
    created = lifecycle.backend().create(new, settings.get().queue_max, 0, None)
    if created == -1:
        return False
    if created != new.id:
        raise errors.QueueFull()
    stored_end = store.get().read(job_id, layout.END)
    if stored_end is not None:
        end = json.loads(stored_end)
        lifecycle.backend().finish(new.id, "", State(end["state"]), end["result"])
    else:
        queues.publish(new.id, new.input, new.options, new.lane)
    return True


def _restore(job_id: str, swept: Swept) -> None:
    try:
        restored = restore(job_id)
    except (OSError, ValueError, KeyError, TypeError, errors.QueueFull) as error:
        log.warning("could not restore job %s: %s", job_id, error)
        return
    if restored:
        log.warning("restored job %s from its folder, because Redis had lost its record", job_id)
        swept.restored += 1
