"""Helps with a document of another worker: one item, then whoever else waits has their turn."""

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
    """The name of a run's batch; helpers find its files by it."""
    return f"{run}:{number}"


def files(folder: layout.JobFolder, batch: str) -> Files:
    """The files of a batch.

    Raises:
        ValueError: if that is no name of a batch: they are pickles, so none but ours are opened.
    """
    run, _, number = batch.rpartition(":")
    return Files(folder.work(run) / "batches" / str(int(number)))


def help_out(job: context.JobContext, batch: str, others_wait: Callable[[], bool]) -> bool:
    """Does items of a batch, at least one, until none is left or another message waits.

    True: some are left, so ask again later. What this process cannot do, it gives back.
    """
    reader = layout.new_id()
    store = files(job.folder, batch)
    try:
        task, initializer = store.task()
    except FileNotFoundError:
        return False  # it is over, or the folder is not on this host
    initializer()
    while True:
        try:
            item = page_queue.lease(batch, reader)
        except page_queue.NoBatch:
            return False
        if item is None or not _do(job, store, batch, item, reader, task):
            return False
        if others_wait():
            return True


def _do(
    job: context.JobContext, store: Files, batch: str, item: int, reader: str, task: Task
) -> bool:
    """Does one item. False: this process should not go on."""
    try:
        with page_queue.renewing(batch, item, reader):
            answer = _with_warnings(task(*store.argument(item)), job)
            store.write_answer(item, reader, answer)
    except Exception:  # the owner tries it too, and then says what is wrong
        if store.folder.exists():  # else the run has ended meanwhile
            log.exception("item %d of %s is given back", item, batch)
        page_queue.hand_back(batch, item, reader)
        return False
    return page_queue.complete(batch, item, reader)


def _with_warnings(answer: Any, job: context.JobContext) -> Any:
    if not isinstance(answer, Reading):
        return answer
    warnings = tuple(job.warnings)
    job.warnings.clear()
    return dataclasses.replace(answer, warnings=warnings)
