"""Who makes a request, and whether they may: decided before each request, by `scopes`.

A token comes as `Authorization: Bearer` or in the cookie that `session` sets; never in an address,
as those end in logs. OCR-D's clients can send nothing but a name and a password, so there it may be
the password.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from flask import Flask, Request, Response, after_this_request, g, request

from ocr_tasks import errors, settings
from ocr_tasks.model import Scope, Token
from ocr_tasks.security import rate_limits, tokens
from web.access import request_origin, scopes

COOKIE = "ocr_token"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request; without a token where access is open."""

    token: Token | None
    address: str
    by_cookie: bool = False

    @property
    def id(self) -> str:
        """Whose the jobs are that this caller submits."""
        return self.token.id if self.token else ""

    @property
    def who(self) -> str:
        """What tells callers apart for counting: the token, or the address where none is needed."""
        return f"token/{self.token.id}" if self.token else f"address/{self.address}"

    @property
    def sees(self) -> str | None:
        """The owner whose jobs this caller sees; None: everybody's."""
        return None if self.token is None or Scope.ADMIN in self.token.scopes else self.token.id

    def check(self) -> None:
        """Makes sure that the token is still good, for requests that take long."""
        if self.token:
            tokens.check(self.token.id)

    def most(self, limit: str) -> int:
        """What a limit allows this caller; 0: any number."""
        own = self.token.limits.get(limit) if self.token else None
        return int(getattr(settings.get(), f"limit_{limit}")) if own is None else own

    @property
    def most_waiting(self) -> int:
        """How many jobs of this caller's may wait; 0: any number, as of callers without a token."""
        return self.most("waiting_jobs") if self.token else 0

    def spend(self, limit: str, cost: int = 1) -> None:
        """Counts uses of what has a limit."""
        rate_limits.spend(self.who, limit, self.most(limit), cost)


def install(app: Flask) -> None:
    """Makes an application ask who it is before it does anything."""
    app.before_request(_check)


def caller() -> Caller:
    """Who makes the present request."""
    found: Caller = g.caller
    return found


def identify(text: str) -> Token:
    """The token with this text; a wrong one counts against the client's address."""
    try:
        return tokens.verify(text)
    except errors.NotAuthenticated:
        limit = "failures_minute"
        rate_limits.spend(
            f"address/{_address(request)}", limit, settings.get().limit_failures_minute
        )
        raise


def _check() -> None:
    # What has no route is answered by Flask: 404, 405, and OPTIONS.
    if request.url_rule is None or request.method == "OPTIONS":
        return
    needed = scopes.needed(request.url_rule.endpoint)
    if needed is not scopes.PUBLIC:
        demand(needed)


def demand(needed: scopes.Scopes) -> Caller:
    """Makes sure that who makes the present request has one of these scopes."""
    g.caller = _caller()
    if g.caller.token and not g.caller.token.scopes & (needed | {Scope.ADMIN}):
        names = " or ".join(sorted(needed))
        raise errors.ScopeMissing(f"This needs the scope {names}", scopes=sorted(needed))
    g.caller.spend("requests_minute")
    return caller()


def _caller() -> Caller:
    address = _address(request)
    if not settings.get().needs_tokens:
        return Caller(None, address)
    text, cookie = request_origin.token(request), request.cookies.get(COOKIE)
    if text is None and cookie is None:
        raise errors.NotAuthenticated()
    try:
        token = identify((cookie or "") if text is None else text)
    except errors.NotAuthenticated:
        if text is None:
            after_this_request(without_cookie)
        raise
    return Caller(token, address, text is None)


def without_cookie(response: Response) -> Response:
    """Makes the browser forget its token."""
    response.delete_cookie(COOKIE, httponly=True, samesite="Strict", secure=request.is_secure)
    return response


def _address(asked: Request) -> str:
    """What counts as one client: an address, of IPv6 the 64 bits that a household gets."""
    address = request_origin.client_address(asked)
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
