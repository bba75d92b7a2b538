"""Deletes what has been kept long enough, and what nobody refers to; restores what Redis forgot."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ocr_tasks import errors, jobs, keys, redis_client, settings, storage
from ocr_tasks.model import State

log = logging.getLogger("ocr_tasks.retention")

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
    """Deletes inputs, results and jobs whose time is over.

    Raises:
        redis.RedisError, errors.QueueUnavailable: if Redis is away.
    """
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
    client = redis_client.client()
    while keep:
        before = redis_client.now() - keep
        due: list[str] = client.zrangebyscore(index, "-inf", before, 0, _AT_ONCE)  # type: ignore[assignment]
        for job_id in due:
            # One that is being run again is no longer in the index.
            if client.zrem(index, job_id):
                drop(job_id)
                count += 1
        if len(due) < _AT_ONCE:
            break
    return count


def _free(path: Path, swept: Swept) -> None:
    swept.bytes += storage.size(path)
    storage.discard(path)


def _drop_input(job_id: str, swept: Swept) -> None:
    _free(storage.job(job_id).input, swept)


def _drop_results(job_id: str, swept: Swept) -> None:
    folder = storage.job(job_id)
    for part in (folder.path / "runs", folder.pages, folder.log):
        _free(part, swept)


def _drop(job_id: str, swept: Swept) -> None:
    swept.bytes += storage.size(storage.job(job_id).path)
    jobs.backend().remove(job_id, settings.get().tombstone_seconds)
    storage.delete(job_id)


def sweep(swept: Swept) -> None:
    """Looks at every folder: deletes those that belong to nobody, restores jobs without a record.

    Raises:
        redis.RedisError, errors.QueueUnavailable: if Redis is away.
    """
    for upload in storage.uploads():
        if storage.age(upload) > _ABANDONED:
            _free(upload, swept)
            swept.uploads += 1
    batch: list[str] = []
    for path in storage.folders():
        batch.append(path.name)
        if len(batch) == _AT_ONCE:
            _sweep_jobs(batch, swept)
            batch.clear()
    _sweep_jobs(batch, swept)


def _sweep_jobs(job_ids: list[str], swept: Swept) -> None:
    for job_id, (record, _) in zip(job_ids, jobs.backend().records(job_ids), strict=True):
        state = record.get("state")
        folder = storage.job(job_id)
        if state is None and folder.manifest.exists():
            _restore(folder, swept)
        elif state == "deleted" or (state is None and storage.age(folder.path) > _ABANDONED):
            _free(folder.path, swept)
            swept.leftovers += 1
        elif state and State(state).final:
            _sweep_leftovers(folder, record, swept)


def _sweep_leftovers(folder: storage.JobFolder, record: dict[str, str], swept: Swept) -> None:
    """Deletes what runs left behind that were killed, or whose results do not count."""
    result = json.loads(record["meta"])["result"] or {}
    left = [folder.path / "work"]
    runs = folder.path / "runs"
    if runs.exists():
        left += [path for path in runs.iterdir() if path.name != result.get("run")]
    for path in left:
        if path.exists() and storage.age(path) > settings.get().lease_seconds:
            _free(path, swept)
            swept.leftovers += 1


def _restore(folder: storage.JobFolder, swept: Swept) -> None:
    try:
        jobs.restore(folder)
    except (OSError, ValueError, KeyError, TypeError, errors.QueueFull) as error:
        log.warning("job %s cannot be restored: %s", folder.path.name, error)
    else:
        log.warning("job %s was restored from its folder: Redis had forgotten it", folder.path.name)
        swept.restored += 1
