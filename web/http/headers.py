"""Headers that make every answer harmless to a browser, whatever a document brought into it."""

from __future__ import annotations

from flask import Flask, Response, request

#: What is no page of ours is shown without scripts, styles, forms, or the rights of this site.
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"

#: Swagger UI, which runs its own scripts and shows nothing of any document.
_API_PAGES = "/docs/api"

#: Tesseract for browsers. A worker has the policy of its own script: it loads the program and its
#: languages from here, runs WebAssembly, and that is all.
_READER = "/static/swarm/vendor/worker.min.js"
_READER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


def install(app: Flask) -> None:
    """Has every answer of an application carry them."""
    app.after_request(_complete)


def _complete(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    if request.path == _READER:
        response.headers["Content-Security-Policy"] = _READER_POLICY
    elif not request.path.startswith(_API_PAGES):
        response.headers.setdefault("Content-Security-Policy", _NOTHING)
    return response
