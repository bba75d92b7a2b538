"""Processing of a job's pages by devices, from the side of the worker that owns the job."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import RedisError

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle, queues, worker_registry
from ocr_tasks.model import State
from ocr_tasks.plugin.context import RunYielded
from ocr_tasks.storage import layout, store
from ocr_tasks.swarm import devices, queue, transcripts
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import SwarmPage

log = logging.getLogger(__name__)

#: Seconds for which one request to Redis waits for a result.
_POLL_SECONDS = 1.0

#: Seconds between two renewals of the run's batch.
_KEEP_SECONDS = queue.BATCH_SECONDS / 4


def pages_out(engine: str) -> int:
    """Returns how many pages of a job with this `engine` may be with devices at the same time."""
    most = swarm_settings.get().swarm_pages_out
    if engine == "local" or not most:
        return 0
    if engine == "swarm":
        return most
    with contextlib.suppress(errors.ServiceError, RedisError):
        processes = sum(worker.processes for worker in worker_registry.document_workers())
        if lifecycle.counts()[State.RUNNING] >= processes:
            return min(most, 2 * devices.present())
    return 0


def check_engine(engine: str) -> None:
    """Raises InvalidOptions if this server could not send page images of jobs to devices."""
    if engine != "swarm" or store.get().in_folder:
        return
    folder = layout.folder_id()
    if any(worker.folder != folder for worker in worker_registry.document_workers()):
        raise errors.InvalidOptions(
            "engine=swarm requires a data folder that is shared with the workers"
        )


@dataclass(frozen=True)
class DeviceResult:
    """The validated hOCR of a page, and the name of the device that sent it."""

    hocr: str
    device: str


def wait_for_device(
    page: SwarmPage, may_process_here: Callable[[], bool], is_over: Callable[[], bool]
) -> DeviceResult | None:
    """Hands out a page, whose image is already written, and waits for its transcript.

    Returns None if this process must run OCR on the page itself. `may_process_here()` reserves a
    slot for that; it is called once no device has taken the page for OCR_SWARM_TAKE_SECONDS.
    `is_over()` returns whether the run is ending; `wait_for_device` then raises RunYielded.
    """
    config = swarm_settings.get()
    started = renewed = time.monotonic()
    try:
        _enqueue(page)
    except RedisError as error:
        log.warning("page %d cannot be handed out: %s", page.number, error)
        return None
    while True:
        if is_over() or queues.stopping():
            _withdraw(page)
            raise RunYielded
        now = time.monotonic()
        try:
            if now - renewed > _KEEP_SECONDS:
                _enqueue(page)
                renewed = now
            result = queue.wait_for_result(page, _POLL_SECONDS)
            if result and result.startswith("done"):
                return DeviceResult(
                    transcripts.hocr_file(page).read_text(), result.partition(" ")[2]
                )
            not_taken = now - started > config.swarm_take_seconds and not _is_taken(page)
            late = now - started > config.swarm_page_seconds
            if now - started > config.swarm_page_seconds + queue.STORING_SECONDS:
                # A device keeps starting to send a transcript, which is never stored.
                queue.remove(page.id, even_done=True)
                return None
            here = result == "aside" or late or (not_taken and may_process_here())
            # If the page cannot be withdrawn, its transcript is being stored.
            if here and _withdraw(page):
                return None
        except RedisError as error:
            log.warning("Redis failed while page %d was with devices: %s", page.number, error)
            if now - started > config.swarm_page_seconds:
                return None
            time.sleep(_POLL_SECONDS)


def _enqueue(page: SwarmPage) -> None:
    """Puts a page into the queue or, if it is there, keeps it; Redis may have lost it."""
    queue.keep_batch(page.run)
    queue.put([page])


def _is_taken(page: SwarmPage) -> bool:
    return queue.state(page.id).get("state") != "waiting"


def _withdraw(page: SwarmPage) -> bool:
    """Removes a page from the queue. Returns False if its transcript is stored or being stored."""
    try:
        return queue.remove(page.id)
    except RedisError:
        return True
