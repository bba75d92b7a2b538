"""A line for each request that changes something or goes wrong; for the others with DEBUG only."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

log = logging.getLogger("web.access")


def install(app: Flask) -> None:
    """Makes an application log its requests."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    # Polls are many, and say nothing.
    quiet = request.method in ("GET", "HEAD", "OPTIONS") and response.status_code < 400
    level = logging.DEBUG if quiet else logging.INFO
    if log.isEnabledFor(level):
        milliseconds = round((time.monotonic() - g.get("began", time.monotonic())) * 1000, 1)
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
