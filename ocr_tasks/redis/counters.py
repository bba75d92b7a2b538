"""Counters and histograms for /metrics. They are hashes in Redis, so they cover all processes.

HTTP requests are counted in memory and written to Redis every two seconds by a thread, so counting
adds no round trip to a request. Counts that could not be written are kept and written later.
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

#: Upper bounds of the buckets of histograms, in seconds.
WAIT_BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
DURATION_BOUNDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

#: Bound of the last bucket, without an upper limit.
MORE = "+Inf"

#: Seconds between two writes of the counts in memory to Redis.
FLUSH_INTERVAL = 2.0

#: Methods that are counted separately. The others are counted as `other`, because clients can
#: invent any number of them.
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}

#: Seconds added to OCR_PAGE_SECONDS before a page that was never finished is no longer counted.
_PAGE_GRACE = 60


def bound(bounds: Sequence[float], value: float) -> str:
    """Returns the upper bound of the histogram bucket that contains a value."""
    index = bisect_left(bounds, value)
    return str(bounds[index]) if index < len(bounds) else MORE


# Requests


#: Counts and sums by the four parts of their field names in `keys.REQUESTS`.
_requests: Counter[tuple[str, str, str, str]] = Counter()
_seconds: defaultdict[tuple[str, str, str, str], float] = defaultdict(float)
_lock = threading.Lock()


def count_request(method: str, route: str, status: int, seconds: float | None) -> None:
    """Counts a request in memory.

    `route` is the URL rule, never the path, whose values are unlimited. Requests whose `seconds`
    are None do not appear in the histogram of durations.
    """
    method = method if method in _METHODS else "other"
    with _lock:
        _requests["requests", method, route, str(status)] += 1
        if seconds is not None:
            _requests["took", method, route, bound(REQUEST_BOUNDS, seconds)] += 1
            _seconds["seconds", method, route, "all"] += seconds


def flush() -> None:
    """Writes the counts in memory to Redis, or keeps them if that fails."""
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
    """Starts a daemon thread that calls `flush` every FLUSH_INTERVAL seconds."""

    def run() -> None:
        while True:
            time.sleep(FLUSH_INTERVAL)
            flush()

    threading.Thread(target=run, name="counters", daemon=True).start()


# Pages


@contextmanager
def reading_page() -> Iterator[None]:
    """Counts a page as in progress for the duration of the block."""
    name = uuid.uuid4().hex
    now = time.time()
    with suppress(RedisError), connection.client().pipeline(transaction=False) as pipe:
        # A process that is killed cannot remove its page. The entry expires instead.
        pipe.zremrangebyscore(keys.READING, "-inf", now)
        pipe.zadd(keys.READING, {name: now + settings.get().page_seconds + _PAGE_GRACE})
        pipe.execute()
    try:
        yield
    finally:
        with suppress(RedisError):
            connection.client().zrem(keys.READING, name)


def count_page() -> None:
    """Counts a processed page."""
    with suppress(RedisError):
        connection.client().hincrby(keys.STATS, "pages_read", 1)
