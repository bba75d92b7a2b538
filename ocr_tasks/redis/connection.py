"""The one Redis client of a process, and the scripts in `lua/`."""

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

#: What redis-py raises when Redis is away or starting.
UNAVAILABLE = (redis.ConnectionError, redis.TimeoutError)

#: The scripts need it: https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags
_OLDEST = 7

#: Runs of a script that are sent together.
_AT_ONCE = 500

_LUA = Path(__file__).parent / "lua"

#: The second line of a script that starts with the functions of files in `include` folders.
_INCLUDE = re.compile(r"-- include: (\w+)\n")


@cache
def client() -> redis.Redis:
    """The client of this process.

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


#: Clients of the process that this one was forked from: what a thread there has locked at that
#: moment would stay locked here, and a client that goes away locks.
_left_behind: list[redis.Redis] = []


def _leave_behind() -> None:
    if client.cache_info().currsize:
        _left_behind.append(client())
        client.cache_clear()
        _script.cache_clear()


os.register_at_fork(after_in_child=_leave_behind)


def misfit(error: redis.RedisError) -> str | None:
    """What an error says against the address of Redis; None: it may pass."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return f"Redis refuses: {error}"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return f"Redis is not trusted: {error.__context__.verify_message}"
    return None


def check() -> None:
    """Makes sure that a Redis that answers is one to work with; one that is away may come later."""
    try:
        version = str(client().info("server")["redis_version"])
    except redis.RedisError as error:
        if why := misfit(error):
            raise errors.SettingsError(f"OCR_REDIS_URL: {why}") from None
        return
    if int(version.partition(".")[0]) < _OLDEST:
        raise errors.SettingsError(
            f"OCR_REDIS_URL: that is Redis {version}; {_OLDEST}.0 or newer is needed"
        )


@cache
def _script(name: str) -> Any:
    # A script whose first line has no `flags=allow-oom` is refused when Redis is full. The others
    # run then, so that jobs can end
    # (https://redis.io/docs/latest/develop/programmability/eval-intro/#script-flags).
    (text,) = _files(f"{name}.lua")
    first, _, body = text.partition("\n")
    include = _INCLUDE.match(body)
    shared = _files(f"include/{include[1]}.lua") if include else ()
    return client().register_script("\n".join([first, *shared, body]))


def _files(name: str) -> list[str]:
    """Returns the texts of the files of this name, the core's first, then those of extensions."""
    folders = [_LUA, *(one.lua for one in extensions.installed() if one.lua)]
    return [path.read_text() for folder in folders if (path := folder / name).exists()]


def run(name: str, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
    """Runs `lua/<name>.lua` and gives what it returns."""
    return cast("Any", _script(name)(keys=list(keys), args=list(args)))


def run_each(name: str, rows: Iterable[tuple[Sequence[str], Sequence[str | int | float]]]) -> Any:
    """Runs a script once per row of keys and arguments, in few round trips; returns the results."""
    answers: list[Any] = []
    rows = iter(rows)
    while batch := list(islice(rows, _AT_ONCE)):
        with client().pipeline(transaction=False) as pipe:
            for keys, args in batch:
                _script(name)(keys=list(keys), args=list(args), client=pipe)
            answers += pipe.execute()
    return answers


def now() -> float:
    """Redis' clock, in seconds since the epoch: the only one that leases go by."""
    seconds, microseconds = client().time()
    return seconds + microseconds / 1_000_000


def run_id() -> str:
    """A name that Redis has until it is started anew."""
    return str(client().info("server")["run_id"])


def uptime() -> float:
    """Seconds since Redis was started."""
    return float(client().info("server")["uptime_in_seconds"])


def subscription() -> PubSub:
    """A connection that listens to channels; a context manager that closes it."""
    return cast("PubSub", client().pubsub(ignore_subscribe_messages=True))  # type: ignore[no-untyped-call]


@contextmanager
def errors_as_ours() -> Iterator[None]:
    """Turns the errors of a Redis that is away or full into ours."""
    try:
        yield
    except UNAVAILABLE as error:
        raise errors.QueueUnavailable() from error
    except redis.exceptions.OutOfMemoryError as error:
        raise errors.JobStoreFull(retry_after=60) from error
