"""Helps with a document of another worker: one item, then whoever else waits has their turn."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from ocr_tasks import pages, storage
from ocr_tasks.plugin import context
from ocr_tasks.plugin.batch import Files, Task
from ocr_tasks.plugin.reading import Reading

log = logging.getLogger("ocr_tasks.helper")


def batch_name(run: str, number: int) -> str:
    """The name of a run's batch; helpers find its files by it."""
    return f"{run}:{number}"


def files(folder: storage.JobFolder, batch: str) -> Files:
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
    reader = storage.new_id()
    store = files(job.folder, batch)
    try:
        task, initializer = store.task()
    except FileNotFoundError:
        return False  # it is over, or the folder is not on this host
    initializer()
    while True:
        try:
            item = pages.lease(batch, reader)
        except pages.NoBatch:
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
        with pages.renewing(batch, item, reader):
            answer = _with_warnings(task(*store.argument(item)), job)
            store.write_answer(item, reader, answer)
    except Exception:  # the owner tries it too, and then says what is wrong
        if store.folder.exists():  # else the run has ended meanwhile
            log.exception("item %d of %s is given back", item, batch)
        pages.hand_back(batch, item, reader)
        return False
    return pages.complete(batch, item, reader)


def _with_warnings(answer: Any, job: context.JobContext) -> Any:
    if not isinstance(answer, Reading):
        return answer
    warnings = tuple(job.warnings)
    job.warnings.clear()
    return dataclasses.replace(answer, warnings=warnings)
