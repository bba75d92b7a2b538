"""Messages to workers, helpers, and preemption of documents.

One process owns a document until it is done; helpers process single pages of it. A document that is
submitted later starts as soon as a helper has finished its page. If every process owns a document,
one of them yields: its document goes to the end of its queue, and is resumed later (`Turn`).
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
    EXTENSION_QUEUES,
    OCR_DOCUMENT,
    QUEUES,
    READ_PAGES,
    app,
    queue_of,
)
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import store

log = logging.getLogger(__name__)

#: Seconds between two documents that yield, so that only one yields to a waiting document.
_YIELD_INTERVAL = 5

#: Minimum length of a turn, as a multiple of the seconds that it took to get back to where the
#: previous run ended.
_MIN_TURN_FACTOR = 4

#: Seconds after which messages to helpers expire if hosts do not share the data folder. Other hosts
#: do not receive the messages of a host that is gone.
_HELPER_MESSAGE_SECONDS = 24 * 3600

#: Maximum length of a document's name in Flower.
_MAX_NAME = 80

#: Held while a message is sent, and during forks. A lock that another thread holds in Celery during
#: a fork would stay locked in the child forever.
_sending = threading.RLock()
os.register_at_fork(
    before=_sending.acquire, after_in_parent=_sending.release, after_in_child=_sending.release
)

#: One byte of memory that all processes of a worker share: 1 if the worker is being stopped.
_stopping = mmap.mmap(-1, 1)


def stop() -> None:
    """Makes the documents of this worker's processes yield after their current page."""
    _stopping[0] = 1


def stopping() -> bool:
    """Returns whether this worker is being stopped."""
    return bool(_stopping[0])


def publish(job_id: str, job_input: Mapping[str, Any], options: dict[str, Any], lane: str) -> None:
    """Sends the message of a job to the end of the queue `lane`, a key of QUEUES.

    If that fails, the recovery thread of a worker sends it later.
    """
    try:
        with _sending:
            app.send_task(
                OCR_DOCUMENT,
                args=[job_id, options],
                **_reprs(_summary(job_input, options), f"{options['mode']}, {lane}"),
                task_id=job_id,
                queue=QUEUES[lane],
                retry=False,
            )
    except _send_errors() as error:
        log.warning("could not send the message of job %s: %s", job_id, error)


def _reprs(args: str, kwargs: str = "") -> dict[str, str]:
    """Returns what Flower shows as the positional and keyword arguments of a task."""
    return {"argsrepr": args, "kwargsrepr": kwargs}


def _summary(job_input: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Returns a job in one line.

    The name is untrusted: line breaks and characters that change the text direction are replaced.
    """
    pages = job_input["pages"]
    count = f"{pages} page{'' if pages == 1 else 's'}"
    facts = f"{count} · {'+'.join(options['languages'])}"
    if not settings.get().flower_names:
        return facts
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in job_input["name"])
    if len(name) > _MAX_NAME:
        name = name[: _MAX_NAME - 1] + "…"
    return f"{name} · {facts}"


def publish_all(task: str, queue_of_job: Mapping[str, str]) -> None:
    """Sends a message for each job to its queue, which calls `task` with the job's id.

    The recovery thread sends later what could not be sent.
    """
    try:
        with _sending, app.producer_pool.acquire(block=True) as producer:
            for job_id, queue in queue_of_job.items():
                app.send_task(
                    task,
                    args=[job_id],
                    **_reprs(queue),
                    task_id=job_id,
                    queue=queue,
                    producer=producer,
                    retry=False,
                )
    except _send_errors() as error:
        log.warning("could not send %d messages for %s: %s", len(queue_of_job), task, error)


def oldest(lane: str) -> str | None:
    """Returns the task id of the oldest message in the queue `lane`, None if the queue is empty."""
    message = cast("str | None", connection.client().lindex(queue_of(lane), -1))
    return str(json.loads(message)["headers"]["id"]) if message else None


def for_helpers(priority: str) -> str:
    """Returns the key of QUEUES for messages to helpers of a document of this priority.

    It is `pages` if hosts do not share the data folder, because only that queue is per folder.
    """
    return "bulk" if priority == "bulk" and store.get().in_folder else "pages"


def call_helpers(job_id: str, lane: str, batch: str, count: int) -> None:
    """Sends up to `count` messages, limited to OCR_HELPERS_MAX, to helpers for a batch of a job.

    If they cannot be sent, the owner of the job does all items itself.
    """
    try:
        with _sending, app.producer_pool.acquire(block=True) as producer:
            for _ in range(min(count, settings.get().helpers_max)):
                app.send_task(
                    READ_PAGES,
                    args=[job_id, lane, batch],
                    **_reprs(f"helps {job_id}"),
                    queue=QUEUES[lane],
                    producer=producer,
                    ignore_result=True,
                )
        if not store.get().in_folder:
            with suppress(RedisError):
                connection.client().expire(QUEUES[lane], _HELPER_MESSAGE_SECONDS)
    except _send_errors() as error:
        log.warning("could not call helpers for job %s: %s", job_id, error)


def send_event(task: Any, kind: str, **fields: Any) -> None:
    """Sends one of Celery's events about a task of this process."""
    with _sending:
        task.send_event(kind, retry=False, **fields)


def _send_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that Celery raises if a message cannot be sent."""
    return (OperationalError, *app.connection_for_write().connection_errors)


def has_waiting() -> bool:
    """Returns whether any message waits in the queues that this worker consumes."""
    with connection.client().pipeline(transaction=False) as pipe:
        for queue in (*QUEUES.values(), *EXTENSION_QUEUES):
            pipe.llen(queue)
        return any(pipe.execute())


class Turn:
    """The time that a process may spend on its document while other documents wait."""

    def __init__(self, priority: str) -> None:
        names = [name for name in QUEUES if name != "pages"]
        before_or_equal = names[: names.index(priority) + 1]
        self._queues = [QUEUES[name] for name in before_or_equal]
        if "normal" in before_or_equal:
            self._queues += EXTENSION_QUEUES
        self._started_at = time.monotonic()
        #: The oldest message of equal or higher priority at the previous call of `is_over`.
        self._oldest: str | None = None

    def is_over(self, back: float) -> bool:
        """Returns whether this document should yield. Called after each processed page.

        `back` is the number of seconds that this run took to get to where the previous run ended.

        A document yields if the same message of equal or higher priority has been the oldest since
        the previous call, because then every process owns a document. It also yields if this worker
        is being stopped.
        """
        if stopping():
            return True
        length = back + max(settings.get().turn_seconds, _MIN_TURN_FACTOR * back)
        if time.monotonic() < self._started_at + length:
            return False
        try:
            oldest = self._next_message()
            waited, self._oldest = oldest is not None and oldest == self._oldest, oldest
            client = connection.client()
            return waited and bool(client.set(keys.ASIDE, "1", nx=True, ex=_YIELD_INTERVAL))
        except RedisError:
            return False  # processing continues while Redis cannot be reached

    def _next_message(self) -> str | None:
        with connection.client().pipeline(transaction=False) as pipe:
            for queue in self._queues:
                pipe.lindex(queue, -1)
            return next(filter(None, pipe.execute()), None)
