"""Rate limits, counted in Redis by the `limits` library.

Windows are fixed: they start with the first use and end a minute or a day later. `Retry-After` is
therefore exact. Without Redis every request is rejected.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache

import redis
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from ocr_tasks import errors
from ocr_tasks.redis import connection, keys

_WINDOWS: dict[str, type[RateLimitItem]] = {
    "requests_minute": RateLimitItemPerMinute,
    "submits_minute": RateLimitItemPerMinute,
    "failures_minute": RateLimitItemPerMinute,
    "pages_day": RateLimitItemPerDay,
}


def spend(who: str, limit: str, most: int, cost: int = 1) -> None:
    """Counts `cost` uses of a limit by a client. Raises LimitReached if it would exceed `most`.

    `most` is the number of uses per window, 0 for unlimited. Rejected uses are not counted.
    """
    if not most:
        return
    item = _WINDOWS[limit](most)
    with connection.translated_errors():
        limiter = _limiter(connection.client())
        if limiter.hit(item, limit, who, cost=cost):
            return
        limiter.hit(item, limit, who, cost=-cost)
        ends = limiter.get_window_stats(item, limit, who).reset_time
    raise errors.LimitReached(limit, most, max(1, math.ceil(ends - time.time())))


@lru_cache(maxsize=1)
def _limiter(client: redis.Redis) -> FixedWindowRateLimiter:
    # The project's own connection pool supports all URLs of redis-py, including unix://.
    storage = RedisStorage(
        "redis://", connection_pool=client.connection_pool, key_prefix=keys.LIMITS
    )
    return FixedWindowRateLimiter(storage)
