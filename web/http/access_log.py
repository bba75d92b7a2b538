"""A line for each request that changes something or goes wrong; for the others with DEBUG only.

All of them are counted, for /metrics.
"""

from __future__ import annotations

import logging
import re
import time
from functools import cache

from flask import Flask, Response, g, request

from ocr_tasks.redis import counters

log = logging.getLogger("web.access")

#: A part of a rule that stands for many addresses.
_PLACEHOLDER = re.compile(r"<(?:[^:<>]+:)?(\w+)>")


def install(app: Flask) -> None:
    """Makes an application log its requests."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def waits() -> None:
    """Says that the present request waits for something, so that its time tells nothing."""
    g.waited = True


def _end(response: Response) -> Response:
    seconds = time.monotonic() - g.get("began", time.monotonic())
    # A request that asked to wait says nothing of how fast answers are.
    waited = "wait" in request.args or "Prefer" in request.headers or "waited" in g
    timed = None if waited else seconds
    counters.count_request(request.method, _route(), response.status_code, timed)
    # Polls are many, and say nothing; that a part is missing is what /readyz is asked for.
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
    """The rule of the address that was asked for, as the documentation writes it."""
    return _written(request.url_rule.rule) if request.url_rule else "none"


@cache
def _written(rule: str) -> str:
    return _PLACEHOLDER.sub(r"{\1}", rule)
