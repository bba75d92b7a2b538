"""Decides whether and when a failed request is sent again."""

from __future__ import annotations

import random
import time

import httpx

from ocr_tasks.client.problems import ApiError

#: Statuses after which the request was certainly not executed, and after which it may have been.
_NOT_EXECUTED, _MAYBE_EXECUTED = frozenset({429, 503}), frozenset({408, 502, 504})

#: Errors that occur before a request is sent.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

#: Seconds of the first pause, and the upper limit for the pause that a server requests.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 300.0

Failure = ApiError | httpx.TransportError


class Retries:
    """The retries of one request, with exponential backoff and a time limit."""

    def __init__(self, patience: float) -> None:
        """`patience` is the number of seconds for which it may keep failing; 0 means no retries."""
        self._patience = patience
        self._failing_since: float | None = None
        self._pause = _FIRST_PAUSE

    def reset(self) -> None:
        """Restarts backoff and time limit, because data has arrived since the last failure."""
        self._failing_since, self._pause = None, _FIRST_PAUSE

    def next_pause(self, failure: Failure, repeatable: bool = True) -> float:
        """Returns the seconds until the next attempt.

        `repeatable` is true if the request may be executed twice.

        Raises:
            ApiError, httpx.TransportError: the failure, if the request must not be repeated, or if
                the time limit would be exceeded.
        """
        if not _may_repeat(failure, repeatable):
            raise failure
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        remaining = self._failing_since + self._patience - now
        requested = failure.retry_after if isinstance(failure, ApiError) else None
        # Jitter spreads the requests of clients that wait for the same server.
        jitter = random.uniform(0.5, 1)  # noqa: S311  # no secret
        if requested is None:
            pause = self._pause * jitter
        else:
            pause = min(requested, _LONGEST_PAUSE) * (2 - jitter)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE / 10)
        if remaining <= 0 or (requested or 0) > remaining:
            raise failure
        return min(pause, max(remaining, requested or 0))


def _may_repeat(failure: Failure, repeatable: bool) -> bool:
    if isinstance(failure, httpx.UnsupportedProtocol):  # the URL is invalid
        return False
    if isinstance(failure, ApiError):
        return failure.status in _NOT_EXECUTED or (repeatable and failure.status in _MAYBE_EXECUTED)
    return repeatable or isinstance(failure, _NEVER_SENT)
