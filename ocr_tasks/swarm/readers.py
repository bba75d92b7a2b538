"""Has the pages of a job read by devices: what the worker that owns the job does for it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import RedisError

from ocr_tasks import errors, settings
from ocr_tasks.jobs import lifecycle, queues, worker_registry
from ocr_tasks.model import State
from ocr_tasks.plugin.context import StepAside
from ocr_tasks.storage import layout, store
from ocr_tasks.swarm import devices, queue, transcripts
from ocr_tasks.swarm.model import SwarmPage

log = logging.getLogger(__name__)

#: Seconds for which one look for an answer waits, and between two signs that pages are wanted.
_LOOK_SECONDS, _KEEP_SECONDS = 1.0, queue.BATCH_SECONDS / 4


def pages_out(engine: str) -> int:
    """How many pages of a job with this `engine` may be out at devices."""
    most = settings.get().swarm_pages_out
    if engine == "local" or not most:
        return 0
    if engine == "swarm":
        return most
    with contextlib.suppress(errors.ServiceError, RedisError):
        processes = sum(worker.processes for worker in worker_registry.readers())
        if lifecycle.counts()[State.RUNNING] >= processes:
            return min(most, 2 * devices.present())
    return 0


def check_engine(engine: str) -> None:
    """Makes sure that devices, who come to this server, can get the images of a job's pages."""
    if engine != "swarm" or store.get().in_folder:
        return
    folder = layout.folder_id()
    if any(worker.folder != folder for worker in worker_registry.readers()):
        raise errors.InvalidOptions(
            "engine=swarm requires a data folder that is shared with the workers"
        )


@dataclass(frozen=True)
class Answer:
    """The hOCR of a page, checked and cleaned, and which device read it."""

    hocr: str
    device: str


def ask(
    page: SwarmPage, may_read_here: Callable[[], bool], is_over: Callable[[], bool]
) -> Answer | None:
    """Has a page whose image is in place read by devices; None: it is to be read here.

    `may_read_here()` takes a place for reading it here, once nobody has taken the page for
    OCR_SWARM_TAKE_SECONDS. `is_over()` says whether the run is ending.
    """
    config = settings.get()
    began = kept = time.monotonic()
    try:
        _want(page)
    except RedisError as error:
        log.warning("page %d cannot be handed out: %s", page.number, error)
        return None
    while True:
        if is_over() or queues.stopping():
            _withdraw(page)
            raise StepAside
        now = time.monotonic()
        try:
            if now - kept > _KEEP_SECONDS:
                _want(page)
                kept = now
            told = queue.wait_for_answer(page, _LOOK_SECONDS)
            if told and told.startswith("done"):
                return Answer(transcripts.answer_file(page).read_text(), told.partition(" ")[2])
            nobody = now - began > config.swarm_take_seconds and not _is_taken(page)
            late = now - began > config.swarm_page_seconds
            if now - began > config.swarm_page_seconds + queue.STORING_SECONDS:
                # Somebody begins to answer again and again, and never does.
                queue.remove(page.id, even_done=True)
                return None
            here = told == "aside" or late or (nobody and may_read_here())
            # Where it cannot be withdrawn, its transcript has just come.
            if here and _withdraw(page):
                return None
        except RedisError as error:
            log.warning("page %d is waited for, but Redis is away: %s", page.number, error)
            if now - began > config.swarm_page_seconds:
                return None
            time.sleep(_LOOK_SECONDS)


def _want(page: SwarmPage) -> None:
    """Says that a page is wanted, which Redis may have forgotten."""
    queue.keep_batch(page.run)
    queue.put([page])


def _is_taken(page: SwarmPage) -> bool:
    return queue.state(page.id).get("state") != "waiting"


def _withdraw(page: SwarmPage) -> bool:
    try:
        return queue.remove(page.id)
    except RedisError:
        return True
