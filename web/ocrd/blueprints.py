"""What all addresses under /ocrd have in common: how they are made, answered and refused.

OCR-D's Web API is version 0.1.0 of https://github.com/OCR-D/spec/blob/master/openapi.yml, with what
OCR-D's own server (https://github.com/OCR-D/core) and its client have besides. Every refusal is
JSON with a `detail`, without which that client breaks down; a problem document has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from flask import Flask, Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel

from ocr_tasks import errors
from web.http import problems
from web.http.schemas import ProblemBody

PREFIX = "/ocrd"


def make(name: str, description: str) -> APIBlueprint:
    """A blueprint for a part of OCR-D's Web API. Its name begins with `ocrd_`: see `origins`."""
    blueprint = APIBlueprint(
        f"ocrd_{name}",
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=f"OCR-D {name}", description=description)],
        abp_responses={"default": ProblemBody},
    )
    blueprint.register_error_handler(errors.NotAuthenticated, _challenge)
    return blueprint


def answer(body: BaseModel | Iterable[Any], status: int = 200) -> Response:
    """A body as JSON; what is not set is left out, as OCR-D's client has no word for null."""
    if isinstance(body, BaseModel):
        text = body.model_dump_json(by_alias=True, exclude_none=True)
    else:
        text = json.dumps(body, ensure_ascii=False)
    response = Response(text, status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def plain(text: str) -> Response:
    """Text of a client or a processor, which may be anything."""
    response = Response(text, content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response


def unprocessable(error: errors.MalformedRequest) -> Response:
    """A body or query that does not fit; OCR-D says 422 of it."""
    return problems.respond(error, 422)


def install(app: Flask) -> None:
    """Has an application take addresses under /ocrd also with too many slashes.

    OCR-D's client puts `/processor` behind the address that it is given, whatever that ends with.
    """
    app.wsgi_app = _Collapsing(app.wsgi_app)  # type: ignore[method-assign]  # as for ProxyFix


class _Collapsing:
    def __init__(self, application: Any) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = "/" + "/".join(filter(None, environ.get("PATH_INFO", "").split("/")))
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            environ["PATH_INFO"] = path
        answered: Iterable[bytes] = self._application(environ, start_response)
        return answered


def _challenge(error: errors.NotAuthenticated) -> Response:
    response = problems.respond(error)
    # A header each: old clients stumble over two challenges in one (RFC 9110, section 11.6.1).
    response.headers.add("WWW-Authenticate", 'Basic realm="OCR Tasks", charset="UTF-8"')
    return response
