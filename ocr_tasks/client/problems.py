"""The client's exceptions: `ApiError` for error responses, `TransferError` for corrupt downloads.

If the server cannot be reached, httpx raises an `httpx.TransportError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ocr_tasks.client.models import join_sentences

_RETRYABLE = frozenset({408, 429, 502, 503, 504})


class ApiError(Exception):
    """An error response of the server.

    `status` is the HTTP status. `code` is a stable identifier for programs. `detail` says what is
    wrong, and `advice` what to do. `retryable` is true if the same request may succeed later, and
    `retry_after` is the number of seconds to wait, if the server sent it. `problem` is the whole
    problem document (RFC 9457), {} if the response is not from OCR Tasks (e.g. from a proxy).
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
        super().__init__(join_sentences(self.detail, self.advice))

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
        """Returns the error for an error response or a redirect."""
        try:
            body = json.loads(content)
        except ValueError:
            body = {}
        problem = body if isinstance(body, dict) else {}
        if "Location" in headers:
            detail = f"The server redirects to another URL: {headers['Location']}"
            problem = {"detail": detail, "advice": "Use that URL."}
        return cls(status, problem, parse_retry_after(headers.get("Retry-After", "")))


class TransferError(Exception):
    """A downloaded result is incomplete or differs from the server's file.

    A target given as a path is unchanged.
    """


def parse_retry_after(header: str) -> float | None:
    """Returns the seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3).

    Returns None if the header is invalid.
    """
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
