"""The Redis client of a process, and the Lua scripts of the core and of extensions."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.client import PubSub
from redis.retry import Retry

from ocr_tasks import errors, extensions, settings

#: Errors that redis-py raises if Redis cannot be reached or is starting.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError)

#: Oldest supported major version. The scripts use flags:
#: https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags
_OLDEST = 7

#: Script calls per round trip.
_BATCH_SIZE = 500

_LUA = Path(__file__).parent / "lua"

#: The second line of a script that uses functions from files in `include` folders.
_INCLUDE = re.compile(r"-- include: ([\w ]+)\n")


@cache
def client() -> redis.Redis:
    """Returns the client of this process. Replies are decoded to text.

    A command whose connection fails is retried once. Then the error is raised, because a client of
    the API can handle a 503 better than a long wait.
    """
    return redis.Redis.from_url(
        settings.get().redis,
        decode_responses=True,
        socket_timeout=4,
        socket_connect_timeout=2,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 1),
    )


#: Clients that this process inherited by a fork. They must not be used, because a lock that a
#: thread of the parent held during the fork stays locked here. They must not be garbage-collected
#: either, because that acquires their locks.
_inherited: list[redis.Redis] = []


def _abandon_client() -> None:
    if client.cache_info().currsize:
        _inherited.append(client())
        client.cache_clear()
        _script.cache_clear()


os.register_at_fork(after_in_child=_abandon_client)


def rejection_reason(error: redis.RedisError) -> str | None:
    """Returns why the configured Redis cannot be used, or None for errors that may be temporary."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return f"Redis denied access: {error}"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return f"Redis is not trusted: {error.__context__.verify_message}"
    return None


def check() -> None:
    """Raises SettingsError if Redis rejects this process or is too old.

    Does nothing if Redis cannot be reached, because it may still be starting.
    """
    try:
        version = str(client().info("server")["redis_version"])
    except redis.RedisError as error:
        if why := rejection_reason(error):
            raise errors.SettingsError(f"OCR_REDIS_URL: {why}") from None
        return
    if int(version.partition(".")[0]) < _OLDEST:
        raise errors.SettingsError(
            f"OCR_REDIS_URL: Redis is version {version}; {_OLDEST}.0 or newer is required"
        )


@cache
def _script(name: str) -> Any:
    # When Redis is full, it rejects scripts whose first line has no `flags=allow-oom`. All scripts
    # have it except those that accept a job or add pages for devices, so that running jobs can end.
    (text,) = _files(f"{name}.lua")
    first, _, body = text.partition("\n")
    include = _INCLUDE.match(body)
    names = include[1].split() if include else ()
    shared = [text for name in names for text in _files(f"include/{name}.lua")]
    return client().register_script("\n".join([first, *shared, body]))


def _files(name: str) -> list[str]:
    """Returns the contents of the files with this name: the core's first, then the extensions'."""
    folders = [_LUA, *(one.lua for one in extensions.installed() if one.lua)]
    return [path.read_text() for folder in folders if (path := folder / name).exists()]


def run(name: str, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
    """Runs `lua/<name>.lua` and returns its result."""
    return cast("Any", _script(name)(keys=list(keys), args=list(args)))


def run_each(name: str, rows: Iterable[tuple[Sequence[str], Sequence[str | int | float]]]) -> Any:
    """Runs a script once per row of keys and arguments, in few round trips; returns the results."""
    results: list[Any] = []
    rows = iter(rows)
    while batch := list(islice(rows, _BATCH_SIZE)):
        with client().pipeline(transaction=False) as pipe:
            for keys, args in batch:
                _script(name)(keys=list(keys), args=list(args), client=pipe)
            results += pipe.execute()
    return results


def now() -> float:
    """Returns the time of Redis in seconds since the epoch, which all leases are based on."""
    seconds, microseconds = client().time()
    return seconds + microseconds / 1_000_000


def run_id() -> str:
    """Returns the id that Redis has until it is restarted."""
    return str(client().info("server")["run_id"])


def uptime() -> float:
    """Returns the seconds since Redis was started."""
    return float(client().info("server")["uptime_in_seconds"])


def subscription() -> PubSub:
    """Returns a connection that can subscribe to channels; a context manager that closes it."""
    return cast("PubSub", client().pubsub(ignore_subscribe_messages=True))  # type: ignore[no-untyped-call]


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises QueueUnavailable or RedisFull if Redis is unreachable or full in the block."""
    try:
        yield
    except UNAVAILABLE as error:
        raise errors.QueueUnavailable() from error
    except redis.exceptions.OutOfMemoryError as error:
        raise errors.RedisFull(retry_after=60) from error
