"""The queues that workers take messages from: who goes first, who helps, and whose turn is over.

A document is owned by one process until it is done, and helped by others a page at a time. So a
small document that comes later starts as soon as any process that only helps has finished its page.
Where every process owns a document, one of them steps aside for it: its document goes to the end of
its lane, and is gone on with from there.
"""

from __future__ import annotations

import time
from typing import Any

from redis import RedisError

from ocr_tasks import errors, keys, redis_client, settings
from ocr_tasks.app import LANES, OCR_DOCUMENT, READ_PAGES, app

#: Seconds between two documents that step aside, so that one place is not made twice.
_ONE_AT_A_TIME = 5

#: A turn lasts at least so many times as long as it took to get back to where the last one ended.
_WORTH = 4


def publish(job_id: str, options: dict[str, Any], retry: bool = False) -> None:
    """Sends the message of a job, which wakes a worker, to the end of its lane.

    `retry`: tries again for a moment where Redis is away.

    Raises:
        errors.QueueUnavailable: if it could not be sent.
    """
    # Flower shows this instead of the arguments, which hold what the client wrote.
    shown = f"('{job_id}', languages={'+'.join(options['languages'])}, mode={options['mode']})"
    try:
        app.send_task(
            OCR_DOCUMENT,
            args=[job_id, options],
            argsrepr=shown,
            task_id=job_id,
            queue=LANES[options["priority"]],
            retry=retry,
        )
    except app.connection_for_write().connection_errors as error:
        raise errors.QueueUnavailable() from error


def for_helpers(priority: str) -> str:
    """The lane in which helpers of a document of this priority wait."""
    return "bulk" if priority == "bulk" else "pages"


def call_helpers(job_id: str, lane: str, batch: str, count: int) -> None:
    """Asks so many other processes to take part in a batch of a job, after what waits already."""
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(min(count, settings.get().helpers_max)):
            app.send_task(
                READ_PAGES,
                args=[job_id, lane, batch],
                queue=LANES[lane],
                producer=producer,
                ignore_result=True,
            )


def others_wait() -> bool:
    """Whether any message waits for a worker."""
    with redis_client.client().pipeline(transaction=False) as pipe:
        for lane in LANES.values():
            pipe.llen(lane)
        return any(pipe.execute())


class Turn:
    """The time for which a process may go on with its document although others wait."""

    def __init__(self, priority: str) -> None:
        names = [name for name in LANES if name != "pages"]
        before_or_equal = names[: names.index(priority) + 1]
        self._lanes = [LANES[name] for name in before_or_equal]
        self._begun = time.monotonic()
        self._waiting: str | None = None

    def is_over(self, back: float) -> bool:
        """Whether this document is to step aside; to be asked after each page that was read.

        `back` is the number of seconds that this run took to get to where the last one ended.

        It is if a document that is not less urgent has waited for a page's time and nobody took it:
        every process owns a document then.
        """
        length = back + max(settings.get().turn_seconds, _WORTH * back)
        if time.monotonic() < self._begun + length:
            return False
        try:
            waiting = self._next_message()
            waited, self._waiting = waiting is not None and waiting == self._waiting, waiting
            client = redis_client.client()
            return waited and bool(client.set(keys.ASIDE, "1", nx=True, ex=_ONE_AT_A_TIME))
        except RedisError:
            return False  # the reading goes on while Redis is away

    def _next_message(self) -> str | None:
        with redis_client.client().pipeline(transaction=False) as pipe:
            for lane in self._lanes:
                pipe.lindex(lane, -1)
            return next(filter(None, pipe.execute()), None)
