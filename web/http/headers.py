"""Security headers of all responses, which may contain content of untrusted documents."""

from __future__ import annotations

from flask import Flask, Response, request

#: Everything except the web pages is displayed without scripts, styles, forms, or the origin's
#: privileges.
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"

#: Swagger UI, which runs its own scripts and contains no document content.
_API_PAGES = "/docs/api"

#: The web worker that runs Tesseract. It has its own policy: it may only load the program and
#: language data from this server, and run WebAssembly.
_OCR_WORKER = "/static/swarm/vendor/worker.min.js"
_OCR_WORKER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


def install(app: Flask) -> None:
    """Adds security headers to every response of an application."""
    app.after_request(_complete)


def _complete(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    if request.path == _OCR_WORKER:
        response.headers["Content-Security-Policy"] = _OCR_WORKER_POLICY
    elif not request.path.startswith(_API_PAGES):
        response.headers.setdefault("Content-Security-Policy", _NOTHING)
    return response
