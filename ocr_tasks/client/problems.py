"""What can go wrong: the server refuses, or what it sends does not arrive as it is there.

A server that cannot be reached is an `httpx.TransportError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ocr_tasks.client.models import sentences

_RETRYABLE = frozenset({408, 429, 502, 503, 504})


class ApiError(Exception):
    """The server refused. `code` is stable and for programs; the text is for people.

    `detail` says what happened, `advice` what to do; `retryable` whether the same request may
    succeed later, `retry_after` in how many seconds, if the server says so. `problem` is all that
    it answered (RFC 9457), {} where a proxy answered instead.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after: float | None = None
    ) -> None:
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
        self.advice = str(problem.get("advice") or "")
        self.retryable = bool(problem.get("retryable", status in _RETRYABLE))
        self.retry_after = retry_after
        super().__init__(sentences(self.detail, self.advice))

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
        """The error that an answer is."""
        try:
            found = json.loads(content)
        except ValueError:
            found = {}
        problem = found if isinstance(found, dict) else {}
        if "Location" in headers:
            detail = f"The server is at another address: {headers['Location']}"
            problem = {"detail": detail, "advice": "Use that one."}
        return cls(status, problem, seconds_of(headers.get("Retry-After", "")))


class TransferError(Exception):
    """A result that was fetched is not what the server has; the target is as it was."""


def seconds_of(retry_after: str) -> float | None:
    """The seconds of a header Retry-After: a number, or a date (RFC 9110, section 10.2.3)."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
