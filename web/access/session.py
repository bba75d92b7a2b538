"""/v1/session: the web page's sign-in. The token is kept in an HttpOnly cookie."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from ocr_tasks import settings
from ocr_tasks.model import Scope, Token
from web.access import authentication
from web.http.responses import json_response
from web.http.schemas import ProblemBody, stamp

blueprint = APIBlueprint(
    "session",
    __name__,
    url_prefix="/v1/session",
    abp_tags=[Tag(name="Session", description="The current client; sign-in by cookie")],
    abp_responses={"default": ProblemBody},
)


class SignInBody(BaseModel):
    token: str = Field(max_length=200, description="An API token.")


class SessionBody(BaseModel):
    """The client of the request."""

    access: Literal["open", "tokens"] = Field(description="Whether the server requires a token.")
    by_cookie: bool = Field(description="Whether the token was sent as a cookie.")
    token: str = Field(description="Id of the token; empty without one.")
    name: str = Field(description="Name of the token.")
    scopes: list[Scope] = Field(description="Scopes of the token; all if access is open.")
    expires_at: datetime | None

    @classmethod
    def of(cls, token: Token | None, needed: bool, by_cookie: bool) -> SessionBody:
        return cls(
            access="tokens" if needed else "open",
            by_cookie=by_cookie,
            token=token.id if token else "",
            name=token.name if token else "",
            scopes=sorted(token.scopes if token else Scope),
            expires_at=stamp(token.expires_at) if token else None,
        )


@blueprint.get("", responses={200: SessionBody})
def show() -> Response:
    """Get the current client: its token, and the token's scopes."""
    caller = authentication.caller()
    return _response(caller.token, caller.by_cookie)


@blueprint.post("", responses={200: SessionBody})
def sign_in(body: SignInBody) -> Response:
    """Sign in: store a token in an HttpOnly cookie."""
    text = body.token.strip()
    response = _response(authentication.identify(text), by_cookie=True)
    # A session cookie, without an expiry date.
    response.set_cookie(
        authentication.COOKIE, text, httponly=True, samesite="Strict", secure=request.is_secure
    )
    return response


@blueprint.delete("", responses={204: None})
def sign_out() -> Response:
    """Sign out: delete the cookie."""
    return authentication.delete_cookie(Response(status=204))


def _response(token: Token | None, by_cookie: bool) -> Response:
    body = SessionBody.of(token, settings.get().needs_tokens, by_cookie)
    return json_response(body)
