"""The queues that workers take messages from: who goes first, who helps, and whose turn is over.

A document is owned by one process until it is done, and helped by others a page at a time. So a
small document that comes later starts as soon as any process that only helps has finished its page.
Where every process owns a document, one of them steps aside for it: its document goes to the end of
its lane, and is gone on with from there.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from kombu.exceptions import OperationalError
from redis import RedisError

from ocr_tasks import settings
from ocr_tasks.jobs.celery_app import (
    LANES,
    OCR_DOCUMENT,
    READ_PAGES,
    SHARED_QUEUES,
    app,
    queue_of,
)
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import store

log = logging.getLogger(__name__)

#: Seconds between two documents that step aside, so that one place is not made twice.
_ONE_AT_A_TIME = 5

#: A turn lasts at least so many times as long as it took to get back to where the last one ended.
_WORTH = 4

#: Seconds after which the messages to helpers on a host go that is gone itself.
_PAGES_SECONDS = 24 * 3600

#: Characters of a document's name that Flower shows.
_MOST_OF_NAME = 80

#: Held while a message is sent. A worker's main process forks children while its threads send
#: messages: what one of them has locked in Celery at that moment stays locked in the child.
_sending = threading.RLock()
os.register_at_fork(
    before=_sending.acquire, after_in_parent=_sending.release, after_in_child=_sending.release
)

#: A byte that the processes of a worker share, as they are forked from one: whether it is stopping.
_stopping = mmap.mmap(-1, 1)


def stop() -> None:
    """Has the documents of this worker's processes step aside, each after its page."""
    _stopping[0] = 1


def stopping() -> bool:
    """Whether this worker is being stopped."""
    return bool(_stopping[0])


def publish(job_id: str, job_input: Mapping[str, Any], options: dict[str, Any], lane: str) -> None:
    """Sends the message of a job, which wakes a worker, to the end of a lane.

    Where that fails, the reconciler does it later: the job's record says that it waits.
    """
    try:
        with _sending:
            app.send_task(
                OCR_DOCUMENT,
                args=[job_id, options],
                **_shown(_described(job_input, options), f"{options['mode']}, {lane}"),
                task_id=job_id,
                queue=LANES[lane],
                retry=False,
            )
    except _unsent() as error:
        log.warning("the message of job %s could not be sent: %s", job_id, error)


def _shown(what: str, how: str = "") -> dict[str, str]:
    """What Flower shows in place of a task's arguments, and of its named ones."""
    return {"argsrepr": what, "kwargsrepr": how}


def _described(job_input: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """A job in a line. The name is the client's: one line of it, without tricks of direction."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in job_input["name"])
    if len(name) > _MOST_OF_NAME:
        name = name[: _MOST_OF_NAME - 1] + "…"
    pages = job_input["pages"]
    count = f"{pages} page{'' if pages == 1 else 's'}"
    return f"{name} · {count} · {'+'.join(options['languages'])}"


def publish_to(task: str, queue_of_job: Mapping[str, str]) -> None:
    """Sends a message for each job, by id, to its queue: `task` is called with the job's id.

    The recovery thread sends what could not be sent.
    """
    try:
        with _sending, app.producer_pool.acquire(block=True) as producer:
            for job_id, queue in queue_of_job.items():
                app.send_task(
                    task,
                    args=[job_id],
                    **_shown(queue),
                    task_id=job_id,
                    queue=queue,
                    producer=producer,
                    retry=False,
                )
    except _unsent() as error:
        log.warning("%d messages for %s could not be sent: %s", len(queue_of_job), task, error)


def oldest(lane: str) -> str | None:
    """The id of the task whose message waits longest in a lane; None: nothing waits there."""
    message = cast("str | None", connection.client().lindex(queue_of(lane), -1))
    return str(json.loads(message)["headers"]["id"]) if message else None


def for_helpers(priority: str) -> str:
    """The lane in which helpers of a document of this priority wait.

    Where hosts have data folders of their own, `pages` is the only lane of those who share one.
    """
    return "bulk" if priority == "bulk" and store.get().in_folder else "pages"


def call_helpers(job_id: str, lane: str, batch: str, count: int) -> None:
    """Asks so many other processes to take part in a batch of a job, after what waits already.

    Where they cannot be asked, the owner does everything itself.
    """
    try:
        with _sending, app.producer_pool.acquire(block=True) as producer:
            for _ in range(min(count, settings.get().helpers_max)):
                app.send_task(
                    READ_PAGES,
                    args=[job_id, lane, batch],
                    **_shown(f"helps {job_id}"),
                    queue=LANES[lane],
                    producer=producer,
                    ignore_result=True,
                )
        if not store.get().in_folder:
            with suppress(RedisError):
                connection.client().expire(LANES[lane], _PAGES_SECONDS)
    except _unsent() as error:
        log.warning("no helpers could be called for job %s: %s", job_id, error)


def send_event(task: Any, kind: str, **fields: Any) -> None:
    """Sends one of Celery's events about a task that runs here."""
    with _sending:
        task.send_event(kind, retry=False, **fields)


def _unsent() -> tuple[type[Exception], ...]:
    """What is raised where a message cannot be sent."""
    return (OperationalError, *app.connection_for_write().connection_errors)


def others_wait() -> bool:
    """Whether any message waits for a worker."""
    with connection.client().pipeline(transaction=False) as pipe:
        for queue in (*LANES.values(), *SHARED_QUEUES):
            pipe.llen(queue)
        return any(pipe.execute())


class Turn:
    """The time for which a process may go on with its document although others wait."""

    def __init__(self, priority: str) -> None:
        names = [name for name in LANES if name != "pages"]
        before_or_equal = names[: names.index(priority) + 1]
        self._lanes = [LANES[name] for name in before_or_equal]
        if "normal" in before_or_equal:
            self._lanes += SHARED_QUEUES
        self._begun = time.monotonic()
        self._waiting: str | None = None

    def is_over(self, back: float) -> bool:
        """Whether this document is to step aside; to be asked after each page that was read.

        `back` is the number of seconds that this run took to get to where the last one ended.

        It is if a document that is not less urgent has waited for a page's time and nobody took it:
        every process owns a document then. It is too if this worker is being stopped.
        """
        if stopping():
            return True
        length = back + max(settings.get().turn_seconds, _WORTH * back)
        if time.monotonic() < self._begun + length:
            return False
        try:
            waiting = self._next_message()
            waited, self._waiting = waiting is not None and waiting == self._waiting, waiting
            client = connection.client()
            return waited and bool(client.set(keys.ASIDE, "1", nx=True, ex=_ONE_AT_A_TIME))
        except RedisError:
            return False  # the reading goes on while Redis is away

    def _next_message(self) -> str | None:
        with connection.client().pipeline(transaction=False) as pipe:
            for lane in self._lanes:
                pipe.lindex(lane, -1)
            return next(filter(None, pipe.execute()), None)
