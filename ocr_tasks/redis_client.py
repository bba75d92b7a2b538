"""The one Redis client of a process, and the scripts in `lua/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.client import PubSub
from redis.retry import Retry

from ocr_tasks import errors, settings

#: What redis-py raises when Redis is away, starting, or out of memory.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError)

_LUA = Path(__file__).parent / "lua"


@cache
def client() -> redis.Redis:
    """The client of this process; its pool survives a fork, as redis-py checks the process id.

    Answers are text. A lost connection is tried once more, then raised: a client of the API is
    better served by a 503 than by waiting.
    """
    return redis.Redis.from_url(
        settings.get().redis,
        decode_responses=True,
        socket_timeout=4,
        socket_connect_timeout=2,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 1),
    )


@cache
def _script(name: str) -> Any:
    return client().register_script((_LUA / f"{name}.lua").read_text())


def run(name: str, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
    """Runs `lua/<name>.lua` and gives what it returns.

    Raises:
        redis.RedisError: what redis-py raises; see `errors_as_ours`.
    """
    return cast("Any", _script(name)(keys=list(keys), args=list(args)))


def subscription() -> PubSub:
    """A connection that listens to channels; a context manager that closes it."""
    return cast("PubSub", client().pubsub(ignore_subscribe_messages=True))  # type: ignore[no-untyped-call]


@contextmanager
def errors_as_ours() -> Iterator[None]:
    """Turns the errors of a Redis that is away or full into ours.

    Raises:
        errors.QueueUnavailable
    """
    try:
        yield
    except UNAVAILABLE as error:
        raise errors.QueueUnavailable() from error
