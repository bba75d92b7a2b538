"""When a request is sent again, and after what pause."""

from __future__ import annotations

import random
import time

import httpx

from ocr_tasks.client.problems import ApiError

#: Answers that say that nothing was done; and those after which nobody knows.
_NOT_DONE, _PERHAPS_DONE = frozenset({429, 503}), frozenset({408, 502, 504})

#: The server has not seen such a request.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

#: Seconds of the first pause, and of the longest one, whatever the server asks for.
_FIRST, _LONGEST = 0.5, 300.0

Failure = ApiError | httpx.TransportError


class Tries:
    """The tries of one request, for as long as its caller has patience."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds for which it may fail without a break; 0 for one try."""
        self._patience = patience
        self._since: float | None = None
        self._pause = _FIRST

    def succeed(self) -> None:
        """Notes that something has come of it: what fails from now on is a new failure."""
        self._since, self._pause = None, _FIRST

    def fail(self, failure: Failure, repeatable: bool = True) -> float:
        """Seconds until the next try, of a request that is `repeatable` without harm.

        Raises:
            ApiError, httpx.TransportError: the failure, if there must not be another one, or if it
                would come too late.
        """
        if not _may_repeat(failure, repeatable):
            raise failure
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left = self._since + self._patience - now
        asked = failure.retry_after if isinstance(failure, ApiError) else None
        # Many clients that wait for the same server must not come back at the same moment.
        jitter = random.uniform(0.5, 1)  # noqa: S311  # no secret
        pause = self._pause * jitter if asked is None else min(asked, _LONGEST) * (2 - jitter)
        self._pause = min(self._pause * 2, _LONGEST / 10)
        if left <= 0 or (asked or 0) > left:
            raise failure
        return min(pause, max(left, asked or 0))


def _may_repeat(failure: Failure, repeatable: bool) -> bool:
    if isinstance(failure, httpx.UnsupportedProtocol):  # the address is wrong, and stays so
        return False
    if isinstance(failure, ApiError):
        return failure.status in _NOT_DONE or (repeatable and failure.status in _PERHAPS_DONE)
    return repeatable or isinstance(failure, _NEVER_SENT)
