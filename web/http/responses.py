"""JSON responses."""

from __future__ import annotations

import json
from typing import Any

from flask import Response
from pydantic import BaseModel


def json_response(
    body: BaseModel | Any, status: int = 200, *, cache: str = "no-store", omit_none: bool = False
) -> Response:
    """Returns a body as JSON; `cache` is the Cache-Control header.

    `omit_none` leaves out fields of a model that are None.
    """
    if isinstance(body, BaseModel):
        text = body.model_dump_json(by_alias=True, exclude_none=omit_none)
    else:
        text = json.dumps(body, ensure_ascii=False)
    response = Response(text, status, content_type="application/json")
    response.headers["Cache-Control"] = cache
    return response
