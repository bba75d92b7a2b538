"""What is counted as it happens, for /metrics: in hashes of Redis, so that all processes add up.

Requests are counted in memory first and written together every few seconds, so that counting costs
a request nothing. What Redis does not take stays in memory until it does.
"""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from redis import RedisError

from ocr_tasks import settings
from ocr_tasks.redis import connection, keys

#: Upper bounds of the classes of histograms, in seconds.
WAIT_BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
DURATION_BOUNDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

#: Above the last bound.
MORE = "+Inf"

#: Seconds between two writes of what was counted in memory.
FLUSH_INTERVAL = 2.0

#: Methods that have a count of their own: a client can make up as many as it likes.
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}

#: Seconds beyond its time for which a page may be at hand that nobody has finished.
_PAGE_GRACE = 60


def bound(bounds: Sequence[float], value: float) -> str:
    """The class of a histogram that a value falls into, by its upper bound."""
    place = bisect_left(bounds, value)
    return str(bounds[place]) if place < len(bounds) else MORE


# Requests


#: By the four parts of the names of fields (`keys.REQUESTS`).
_requests: Counter[tuple[str, str, str, str]] = Counter()
_seconds: defaultdict[tuple[str, str, str, str], float] = defaultdict(float)
_lock = threading.Lock()


def count_request(method: str, route: str, status: int, seconds: float | None) -> None:
    """Counts a request in memory. `route` is the rule and never a path; `seconds` None: untimed."""
    method = method if method in _METHODS else "other"
    with _lock:
        _requests["requests", method, route, str(status)] += 1
        if seconds is not None:
            _requests["took", method, route, bound(REQUEST_BOUNDS, seconds)] += 1
            _seconds["seconds", method, route, "all"] += seconds


def flush() -> None:
    """Writes what was counted in memory; what cannot be written now is kept."""
    with _lock:
        counts, sums = dict(_requests), dict(_seconds)
        _requests.clear()
        _seconds.clear()
    if not counts:
        return
    try:
        with connection.client().pipeline() as pipe:
            for name, number in counts.items():
                pipe.hincrby(keys.REQUESTS, " ".join(name), number)
            for name, seconds in sums.items():
                pipe.hincrbyfloat(keys.REQUESTS, " ".join(name), seconds)
            pipe.execute()
    except RedisError:
        with _lock:
            _requests.update(counts)
            for name, seconds in sums.items():
                _seconds[name] += seconds


def keep_flushing() -> None:
    """Starts a thread that writes for as long as the process lives."""

    def run() -> None:
        while True:
            time.sleep(FLUSH_INTERVAL)
            flush()

    threading.Thread(target=run, name="tally", daemon=True).start()


# Pages


@contextmanager
def reading_page() -> Iterator[None]:
    """Counts a page as being read for the time of the block."""
    name = uuid.uuid4().hex
    now = time.time()
    with suppress(RedisError), connection.client().pipeline(transaction=False) as pipe:
        # A process that dies takes nothing back: its page counts until it would be over.
        pipe.zremrangebyscore(keys.READING, "-inf", now)
        pipe.zadd(keys.READING, {name: now + settings.get().page_seconds + _PAGE_GRACE})
        pipe.execute()
    try:
        yield
    finally:
        with suppress(RedisError):
            connection.client().zrem(keys.READING, name)


def count_page() -> None:
    """Counts a page that was read."""
    with suppress(RedisError):
        connection.client().hincrby(keys.STATS, "pages_read", 1)
