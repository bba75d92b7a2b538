"""Deletes what has been kept long enough, and what nobody refers to; restores what Redis forgot."""

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

#: Seconds after which an upload or a folder that belongs to no job was left by a request that died.
_ABANDONED = 3600.0

#: Jobs that are looked at in one go.
_AT_ONCE = 200


@dataclass
class Swept:
    """What was deleted, by numbers, and restored."""

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
    """Deletes inputs, results and jobs whose time is over."""
    config = settings.get()
    swept.inputs += _each_due(
        keys.ENDED_WITH_INPUT, config.keep_inputs_seconds, lambda job: _drop_input(job, swept)
    )
    swept.results += _each_due(
        keys.ENDED_WITH_RESULTS, config.keep_results_seconds, lambda job: _drop_results(job, swept)
    )
    swept.jobs += _each_due(keys.ENDED, config.keep_jobs_seconds, lambda job: _drop(job, swept))


def _each_due(index: str, keep: int, drop: Callable[[str], None]) -> int:
    """Drops the jobs that ended longer ago than so many seconds; gives their number."""
    count = 0
    client = connection.client()
    while keep:
        before = connection.now() - keep
        due: list[str] = client.zrangebyscore(index, "-inf", before, 0, _AT_ONCE)  # type: ignore[assignment]
        for job_id in due:
            # One that is being run again is no longer in the index.
            if client.zrem(index, job_id):
                try:
                    drop(job_id)
                except errors.ServiceError:
                    client.zadd(index, {job_id: before}, nx=True)  # still to be done
                    raise
                count += 1
        if len(due) < _AT_ONCE:
            break
    return count


def _free(path: Path, swept: Swept) -> None:
    swept.bytes += layout.size(path)
    layout.discard(path)


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
    """Looks at all jobs: deletes files that belong to nobody, restores jobs without a record."""
    sweep_host(swept)
    _each_batch(store.get().jobs(), _sweep_jobs, swept)


def sweep_host(swept: Swept) -> None:
    """Sweeps this host's data folder: deletes what dead requests and runs left there."""
    sweep_uploads(swept)
    if not store.get().in_folder:
        _each_batch((path.name for path in layout.folders()), _sweep_scratch, swept)


def sweep_uploads(swept: Swept) -> None:
    """Deletes what requests that died left in the data folder of this host, and expired uploads."""
    count, size = tus.sweep()
    swept.uploads += count
    swept.bytes += size
    for upload in layout.uploads():
        if layout.age(upload) > _ABANDONED:
            _free(upload, swept)
            swept.uploads += 1


def _each_batch(
    job_ids: Iterable[str], look: Callable[[list[str], Swept], None], swept: Swept
) -> None:
    rows = iter(job_ids)
    while batch := list(islice(rows, _AT_ONCE)):
        look(batch, swept)


def _sweep_jobs(job_ids: list[str], swept: Swept) -> None:
    kept = store.get()
    for job_id, (record, _) in zip(job_ids, lifecycle.backend().records(job_ids), strict=True):
        state = record.get("state")
        if state is None and kept.has(job_id, layout.REQUEST):
            _restore(job_id, swept)
        elif state == "deleted" or (state is None and kept.age(job_id) > _ABANDONED):
            swept.bytes += kept.size(job_id, "")
            kept.remove(job_id, "")
            swept.leftovers += 1
        elif state and State(state).final and kept.in_folder:
            _sweep_leftovers(layout.job(job_id), record, swept)


def _sweep_scratch(job_ids: list[str], swept: Swept) -> None:
    """Deletes the folders of runs that are not here any more, where jobs are kept elsewhere."""
    for job_id, (record, _) in zip(job_ids, lifecycle.backend().records(job_ids), strict=True):
        state, folder = record.get("state"), layout.job(job_id)
        over = state == "deleted" or (state is not None and State(state).final)
        if over and extensions.owner_of(record):
            _sweep_leftovers(folder, record, swept)  # whose log is kept here
        elif layout.age(folder.path) > (settings.get().lease_seconds if over else _ABANDONED):
            _free(folder.path, swept)
            swept.leftovers += 1


def _sweep_leftovers(folder: layout.JobFolder, record: dict[str, str], swept: Swept) -> None:
    """Deletes what runs left behind that were killed, or whose results do not count."""
    result = json.loads(record["meta"])["result"] or {}
    left = [folder.path / "work"]
    runs = folder.path / "runs"
    if runs.exists():
        left += [path for path in runs.iterdir() if path.name != result.get("run")]
    for path in left:
        if path.exists() and layout.age(path) > settings.get().lease_seconds:
            _free(path, swept)
            swept.leftovers += 1


def restore(job_id: str) -> bool:
    """Recreates the record of a job from its files, and queues the job if it has not ended.

    False: the record exists, as another host recreated it first.
    """
    new = NewJob(**json.loads(store.get().read(job_id, layout.REQUEST) or b""))
    made = lifecycle.backend().create(new, settings.get().queue_max, 0, None)
    if made == -1:
        return False
    if made != new.id:
        raise errors.QueueFull()
    written = store.get().read(job_id, layout.END)
    if written is not None:
        end = json.loads(written)
        lifecycle.backend().end(new.id, State(end["state"]), end["result"])
    else:
        queues.publish(new.id, new.input, new.options, new.lane)
    return True


def _restore(job_id: str, swept: Swept) -> None:
    try:
        restored = restore(job_id)
    except (OSError, ValueError, KeyError, TypeError, errors.QueueFull) as error:
        log.warning("job %s cannot be restored: %s", job_id, error)
        return
    if restored:
        log.warning("job %s was restored from its folder: Redis had forgotten it", job_id)
        swept.restored += 1
