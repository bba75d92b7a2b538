"""Authentication and authorization, checked before each request.

A token is sent as `Authorization: Bearer` or in the cookie set by `session`, never in a URL,
because URLs are logged. Under /ocrd, the token may be the password of Basic authentication, the
only method that OCR-D's clients support. `scopes` defines which scopes each route requires.
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
    """The client of a request. `token` is None if access is open."""

    token: Token | None
    address: str
    by_cookie: bool = False

    @property
    def id(self) -> str:
        """The owner id of jobs submitted by this caller; empty without a token."""
        return self.token.id if self.token else ""

    @property
    def client_key(self) -> str:
        """The key for rate limits: the token id or, without a token, the IP address."""
        return f"token/{self.token.id}" if self.token else f"address/{self.address}"

    @property
    def sees(self) -> str | None:
        """The owner whose jobs this caller can access; None: all jobs."""
        return None if self.token is None or Scope.ADMIN in self.token.scopes else self.token.id

    def check(self) -> None:
        """Checks during long requests that the token is still valid.

        Raises `NotAuthenticated` if it has expired or was revoked.
        """
        if self.token:
            tokens.check(self.token.id)

    def limit(self, name: str) -> int:
        """Returns the value of a limit for this caller; 0: unlimited."""
        own = self.token.limits.get(name) if self.token else None
        return int(getattr(settings.get(), f"limit_{name}")) if own is None else own

    @property
    def max_waiting_jobs(self) -> int:
        """The maximum number of queued jobs; 0: unlimited, always 0 without a token."""
        return self.limit("waiting_jobs") if self.token else 0

    def spend(self, limit: str, cost: int = 1) -> None:
        """Counts `cost` uses against a rate limit; raises `LimitReached` if it is exceeded."""
        rate_limits.spend(self.client_key, limit, self.limit(limit), cost)


def install(app: Flask) -> None:
    """Authenticates every request of an application."""
    app.before_request(_check)


def caller() -> Caller:
    """Returns the client of the current request."""
    found: Caller = g.caller
    return found


def identify(text: str) -> Token:
    """Returns the token with this text.

    Raises `NotAuthenticated` if there is none. Failures count against the client's IP address.
    """
    try:
        return tokens.verify(text)
    except errors.NotAuthenticated:
        limit = "failures_minute"
        rate_limits.spend(
            f"address/{_client_network(request)}", limit, settings.get().limit_failures_minute
        )
        raise


def _check() -> None:
    # Flask handles requests without a route (404, 405) and OPTIONS.
    if request.url_rule is None or request.method == "OPTIONS":
        return
    required = scopes.required(request.url_rule.endpoint)
    if required != scopes.PUBLIC:
        require(required)


def require(required: scopes.Scopes) -> Caller:
    """Authenticates the current request and returns its client.

    Raises `ScopeMissing` unless the token has one of these scopes or `admin`.
    """
    g.caller = _caller()
    if g.caller.token and not g.caller.token.scopes & (required | {Scope.ADMIN}):
        names = " or ".join(sorted(required))
        raise errors.ScopeMissing(
            f"The request requires the scope {names}", scopes=sorted(required)
        )
    g.caller.spend("requests_minute")
    return caller()


def _caller() -> Caller:
    address = _client_network(request)
    if not settings.get().needs_tokens:
        return Caller(None, address)
    text, cookie = request_origin.token(request), request.cookies.get(COOKIE)
    if text is None and cookie is None:
        raise errors.NotAuthenticated()
    try:
        token = identify((cookie or "") if text is None else text)
    except errors.NotAuthenticated:
        if text is None:
            after_this_request(delete_cookie)
        raise
    return Caller(token, address, text is None)


def delete_cookie(response: Response) -> Response:
    """Deletes the token cookie in the browser; returns the response."""
    response.delete_cookie(COOKIE, httponly=True, samesite="Strict", secure=request.is_secure)
    return response


def _client_network(req: Request) -> str:
    """Returns the IP address that identifies a client; for IPv6, its /64 network.

    Providers usually assign a /64 to each household.
    """
    address = request_origin.client_address(req)
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
