"""Helping another worker with its document: processes items of a batch until other work waits."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from ocr_tasks.jobs import page_queue
from ocr_tasks.plugin import context
from ocr_tasks.plugin.batch import Files, Task
from ocr_tasks.plugin.reading import Reading
from ocr_tasks.storage import layout

log = logging.getLogger(__name__)


def batch_name(run: str, number: int) -> str:
    """Returns the name of a run's batch, from which helpers derive the folder of its files."""
    return f"{run}:{number}"


def files(folder: layout.JobFolder, batch: str) -> Files:
    """Returns the files of a batch.

    Raises ValueError for an invalid name: the files are pickles, and a name must not lead to a file
    outside the job's work folder.
    """
    run, _, number = batch.rpartition(":")
    return Files(folder.work(run) / "batches" / str(int(number)))


def help_with(job: context.JobContext, batch: str, has_waiting: Callable[[], bool]) -> bool:
    """Processes items of a batch, at least one, until none is left or `has_waiting()`.

    Returns whether items may be left. An item that fails in this process is released.
    """
    holder = layout.new_id()
    store = files(job.folder, batch)
    try:
        task, initializer = store.task()
    except FileNotFoundError:
        return False  # the batch has ended, or the folder is not on this host
    except (ImportError, AttributeError) as error:
        log.warning("batch %s is of a worker of another version: %s", batch, error)
        return False
    initializer()
    while True:
        try:
            item = page_queue.acquire(batch, holder)
        except page_queue.NoBatch:
            return False
        if item is None or not _process(job, store, batch, item, holder, task):
            return False
        if has_waiting():
            return True


def _process(
    job: context.JobContext, store: Files, batch: str, item: int, holder: str, task: Task
) -> bool:
    """Processes one item. Returns False if this process should stop helping."""
    try:
        with page_queue.renewing(batch, item, holder):
            result = _with_warnings(task(*store.argument(item)), job)
            store.write_result(item, holder, result)
    except Exception:  # the owner processes the item again, and reports the error if it recurs
        if store.folder.exists():  # otherwise the run has ended
            log.exception("item %d of %s failed and is released", item, batch)
        page_queue.release(batch, item, holder)
        return False
    return page_queue.complete(batch, item, holder)


def _with_warnings(result: Any, job: context.JobContext) -> Any:
    if not isinstance(result, Reading):
        return result
    warnings = tuple(job.warnings)
    job.warnings.clear()
    return dataclasses.replace(result, warnings=warnings)
