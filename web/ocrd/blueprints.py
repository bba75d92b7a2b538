"""Common code of all endpoints under /ocrd: blueprints, responses and errors.

Implements version 0.1.0 of https://github.com/OCR-D/spec/blob/master/openapi.yml, with the
additions of OCR-D's own server and client (https://github.com/OCR-D/core). That client crashes if
an error is not JSON with a `detail`; problem documents have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Flask, Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from ocr_tasks import errors
from web.http import problems, responses
from web.http.schemas import ProblemBody

PREFIX = "/ocrd"


def make(name: str, description: str) -> APIBlueprint:
    """Returns a blueprint for a part of OCR-D's Web API.

    Its name is `ocrd_<name>`, which `OcrdExtension` lists in `scopes` and `basic_auth`.
    """
    blueprint = APIBlueprint(
        f"ocrd_{name}",
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=f"OCR-D {name}", description=description)],
        abp_responses={"default": ProblemBody},
    )
    blueprint.register_error_handler(errors.NotAuthenticated, _challenge)
    return blueprint


def json_response(body: BaseModel | Iterable[Any], status: int = 200) -> Response:
    """Returns a JSON response. Unset fields are omitted, because OCR-D's client rejects null."""
    return responses.json_response(body, status, omit_none=True)


def plain(text: str) -> Response:
    """Returns a plain-text response; the text comes from a client or processor."""
    response = Response(text, content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response


def unprocessable(error: errors.MalformedRequest) -> Response:
    """Returns a response for an invalid body or query; OCR-D's status is 422."""
    return problems.respond(error, 422)


def install(app: Flask) -> None:
    """Removes repeated slashes from paths under /ocrd.

    OCR-D's client appends `/processor` to the configured URL, even if that ends with a slash.
    """
    app.wsgi_app = _Collapsing(app.wsgi_app)  # type: ignore[method-assign]  # as for ProxyFix


class _Collapsing:
    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = "/" + "/".join(filter(None, environ.get("PATH_INFO", "").split("/")))
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            environ["PATH_INFO"] = path
        body: Iterable[bytes] = self._application(environ, start_response)
        return body


def _challenge(error: errors.NotAuthenticated) -> Response:
    response = problems.respond(error)
    # Two headers: old clients cannot parse two challenges in one (RFC 9110, section 11.6.1).
    response.headers.add("WWW-Authenticate", 'Basic realm="OCR Tasks", charset="UTF-8"')
    return response
