"""The access log: one line per request that changes data or fails; other requests with DEBUG only.

All requests are counted for /metrics.
"""

from __future__ import annotations

import logging
import re
import time
from functools import cache

from flask import Flask, Response, g, request

from ocr_tasks.redis import counters

log = logging.getLogger("web.access")

#: A placeholder in a URL rule.
_PLACEHOLDER = re.compile(r"<(?:[^:<>]+:)?(\w+)>")


def install(app: Flask) -> None:
    """Logs and counts all requests of an application."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def mark_as_waiting() -> None:
    """Marks the current request as waiting, which excludes it from response times."""
    g.waited = True


def _end(response: Response) -> Response:
    seconds = time.monotonic() - g.get("began", time.monotonic())
    # Requests that wait on purpose would distort the response times.
    waited = "wait" in request.args or "Prefer" in request.headers or "waited" in g
    timed = None if waited else seconds
    counters.count_request(request.method, _route(), response.status_code, timed)
    # Polls are frequent and not informative; a 503 of /readyz is an expected response.
    polls = request.method in ("GET", "HEAD", "OPTIONS")
    quiet = polls and (response.status_code < 400 or request.endpoint == "health.ready")
    level = logging.DEBUG if quiet else logging.INFO
    if log.isEnabledFor(level):
        milliseconds = round(seconds * 1000, 1)
        fields = {
            "method": request.method,
            "path": request.path,  # without the query
            "status": response.status_code,
            "ms": milliseconds,
            "bytes": response.content_length,
            "address": request.remote_addr,
            "job": (request.view_args or {}).get("job_id", ""),
        }
        words = "%s %s %s, %.1f ms, %s"
        shown = (request.method, request.path, response.status_code, milliseconds)
        log.log(level, words, *shown, request.remote_addr, extra=fields)
    return response


def _route() -> str:
    """Returns the URL rule of the request as in the documentation, e.g. `/v1/jobs/{job_id}`."""
    return _format(request.url_rule.rule) if request.url_rule else "none"


@cache
def _format(rule: str) -> str:
    return _PLACEHOLDER.sub(r"{\1}", rule)
