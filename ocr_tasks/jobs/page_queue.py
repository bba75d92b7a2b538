"""The page queue: items of a batch, each leased to one reader at a time.

A batch is what one stage of one run of a job has to do; its items are numbered from 0. The owner of
the job opens it, readers lease items and say when they are done, the owner collects. Here are only
numbers; what is read and what comes out lies in the job's folder (`plugin.batch`).
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

#: Readers that may get lost with an item before it is given up: it may be what kills them.
_MOST_LEASES = 2


#: Times OCR_LEASE_SECONDS for which a batch lives that nobody keeps.
_LIFETIME = 6


class NoBatch(Exception):
    """The batch is closed, or was never opened."""


@dataclass(frozen=True)
class Done:
    """An item that is done. `reader` None: its readers got lost, and nobody tries again."""

    item: int
    reader: str | None


def open_batch(batch: str, items: Collection[int]) -> None:
    """Makes a batch of items, all waiting, the first one first."""
    main, waiting, *_ = names = keys.batch(batch)
    lifetime = _LIFETIME * settings.get().lease_seconds
    with connection.client().pipeline() as pipe:
        pipe.delete(*names)
        pipe.hset(main, "count", str(len(items)))
        pipe.expire(main, lifetime)
        pipe.lpush(waiting, *items)
        pipe.expire(waiting, lifetime)
        pipe.execute()


def keep(batch: str) -> None:
    """Keeps a batch; to be called every OCR_LEASE_SECONDS. That of an owner who died goes."""
    with connection.client().pipeline(transaction=False) as pipe:
        for name in keys.batch(batch):
            pipe.expire(name, _LIFETIME * settings.get().lease_seconds)
        pipe.execute()


def close(batch: str) -> None:
    """Forgets a batch; what its readers still do counts no more. Who collects is let go."""
    *_, done = names = keys.batch(batch)
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.rpush(done, "")
        pipe.delete(*names)
        pipe.execute()


def lease(batch: str, reader: str, lasting: bool = False) -> int | None:
    """An item for a reader, for OCR_LEASE_SECONDS; None: none is left at the moment.

    `lasting`: until the batch is closed.
    """
    seconds = 0 if lasting else settings.get().lease_seconds
    answer = int(connection.run("lease", keys.batch(batch), [reader, seconds, _MOST_LEASES]))
    if answer == -2:
        raise NoBatch(batch)
    return answer if answer >= 0 else None


def complete(batch: str, item: int, reader: str) -> bool:
    """Says that an item is done. False: it is not this reader's any more."""
    return _release(batch, item, reader, "done")


def hand_back(batch: str, item: int, reader: str) -> bool:
    """Gives back an item that this reader cannot do. False: it is not this reader's any more."""
    return _release(batch, item, reader, "back")


def _release(batch: str, item: int, reader: str, how: str) -> bool:
    seconds = settings.get().lease_seconds
    return bool(connection.run("release", keys.batch(batch), [item, reader, how, seconds]) == 1)


@contextmanager
def renewing(batch: str, item: int, reader: str) -> Iterator[None]:
    """Renews the lease of an item for the time of the block."""
    ended = threading.Event()
    interval = settings.get().lease_seconds / 4

    def renew() -> None:
        while not ended.wait(interval):
            try:
                _release(batch, item, reader, "renew")
            except RedisError as error:
                log.warning("the lease of item %d of %s is not renewed: %s", item, batch, error)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def collect(batch: str, seconds: float) -> Done | None:
    """The next item that a reader has done; None if there is none within so many seconds."""
    *_, done = keys.batch(batch)
    row = cast("list[str] | None", connection.client().blpop([done], timeout=seconds))
    if not row or not row[1]:
        return None
    item, _, reader = row[1].partition(" ")
    return Done(int(item), None if reader == "lost" else reader)
