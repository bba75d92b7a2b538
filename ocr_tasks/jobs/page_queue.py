"""The page queue: batches of items, usually pages, that several processes work on.

A batch has the items of one stage of one run of a job, numbered from 0. The process that owns the
job opens it. The owner and its helpers lease items, each to one process at a time, and mark them as
done. The owner collects the done items. Redis holds only the numbers; inputs and results of the
items are files in the job's folder (`plugin.batch`).

`holder` is the name of a process within the batch, and its fencing token.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from redis import RedisError

from ocr_tasks import settings
from ocr_tasks.redis import connection, keys

log = logging.getLogger(__name__)

#: Leases of an item that may expire before it is given up, because it may be what kills processes.
_MAX_LEASES = 2


#: Lifetime of a batch that its owner does not renew, as a multiple of OCR_LEASE_SECONDS.
_LIFETIME = 6


class NoBatch(Exception):
    """The batch is closed, has expired, or was never opened."""


@dataclass(frozen=True)
class Done:
    """A done item. `holder` is None if it was given up because too many leases expired."""

    item: int
    holder: str | None


def open_batch(batch: str, items: Collection[int]) -> None:
    """Creates a batch of waiting items, to be leased in the given order."""
    main, waiting, *_ = names = keys.batch(batch)
    lifetime = _LIFETIME * settings.get().lease_seconds
    with connection.client().pipeline() as pipe:
        pipe.delete(*names)
        pipe.hset(main, "count", str(len(items)))
        pipe.expire(main, lifetime)
        pipe.lpush(waiting, *items)
        pipe.expire(waiting, lifetime)
        pipe.execute()


def renew_batch(batch: str) -> None:
    """Extends the lifetime of a batch. The owner calls it every OCR_LEASE_SECONDS.

    Batches of owners that died expire.
    """
    with connection.client().pipeline(transaction=False) as pipe:
        for name in keys.batch(batch):
            pipe.expire(name, _LIFETIME * settings.get().lease_seconds)
        pipe.execute()


def close(batch: str) -> None:
    """Deletes a batch. Its leases become invalid, and a waiting `collect` returns None."""
    *_, done = names = keys.batch(batch)
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.rpush(done, "")
        pipe.delete(*names)
        pipe.execute()


def acquire(batch: str, holder: str, lasting: bool = False) -> int | None:
    """Leases an item for OCR_LEASE_SECONDS, or until the batch is closed if `lasting`.

    Returns None if no item is available at the moment.
    """
    seconds = 0 if lasting else settings.get().lease_seconds
    item = int(connection.run("batch_acquire", keys.batch(batch), [holder, seconds, _MAX_LEASES]))
    if item == -2:
        raise NoBatch(batch)
    return item if item >= 0 else None


def complete(batch: str, item: int, holder: str) -> bool:
    """Marks an item as done. Returns False if this process no longer holds it."""
    return _release(batch, item, holder, "done")


def release(batch: str, item: int, holder: str) -> bool:
    """Releases an item that this process cannot do. Returns False if it no longer holds it."""
    return _release(batch, item, holder, "release")


def _release(batch: str, item: int, holder: str, how: str) -> bool:
    seconds = settings.get().lease_seconds
    return bool(
        connection.run("batch_release", keys.batch(batch), [item, holder, how, seconds]) == 1
    )


@contextmanager
def renewing(batch: str, item: int, holder: str) -> Iterator[None]:
    """Renews the lease of an item for the duration of the block."""
    ended = threading.Event()
    interval = settings.get().lease_seconds / 4

    def renew() -> None:
        while not ended.wait(interval):
            try:
                _release(batch, item, holder, "renew")
            except RedisError as error:
                log.warning("could not renew the lease of item %d of %s: %s", item, batch, error)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def collect(batch: str, seconds: float) -> Done | None:
    """Returns the next done item, or None if there is none within `seconds`."""
    *_, done = keys.batch(batch)
    row = cast("list[str] | None", connection.client().blpop([done], timeout=seconds))
    if not row or not row[1]:
        return None
    item, _, holder = row[1].partition(" ")
    return Done(int(item), None if holder == "lost" else holder)
