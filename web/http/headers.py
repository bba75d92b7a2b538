"""Security headers of all responses, which may contain content of untrusted documents."""

from __future__ import annotations

from flask import Flask, Response, request

#: Everything except the web pages is displayed without scripts, styles, forms, or the origin's
#: privileges.
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"

#: Swagger UI, which runs its own scripts and contains no document content.
_API_PAGES = "/docs/api"


def install(app: Flask) -> None:
    """Adds security headers to every response of an application."""
    app.after_request(_complete)


def _complete(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    if not request.path.startswith(_API_PAGES):
        response.headers.setdefault("Content-Security-Policy", _NOTHING)
    return response
