"""Checks of where a request comes from: client network, Host header and Origin.

A server on a loopback address is open by default, but every web page in the user's browser can send
requests to it. Requests that change data are therefore rejected if they come from pages of other
sites (CSRF), and the Host header must be a known name of the server (DNS rebinding).
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Collection, Mapping
from functools import cache, lru_cache
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from ocr_tasks import errors, settings
from web import extensions

_SAFE = ("GET", "HEAD", "OPTIONS")

#: Methods, request headers and response headers that pages of allowed origins may use.
_CORS_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_CORS_REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, Range, "
    "Tus-Resumable, Upload-Checksum, Upload-Defer-Length, Upload-Length, Upload-Metadata, "
    "Upload-Offset, X-HTTP-Method-Override, X-Request-ID, X-Requested-With"
)
_CORS_RESPONSE_HEADERS = (
    "Content-Disposition, ETag, Link, Location, Retry-After, Tus-Checksum-Algorithm, "
    "Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Defer-Length, "
    "Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset"
)


@cache
def _unsafe_gets() -> frozenset[str]:
    return frozenset().union(*(one.unsafe_gets for one in extensions.installed()))


@cache
def basic_auth() -> frozenset[str]:
    """Returns the blueprints whose clients may send a token as the password of Basic auth."""
    return frozenset().union(*(one.basic_auth for one in extensions.installed()))


@cache
def _token_headers() -> Mapping[str, str]:
    return {k: v for one in extensions.installed() for k, v in one.token_headers.items()}


@cache
def _pair_headers() -> Mapping[str, str]:
    return {k: v for one in extensions.installed() for k, v in one.pair_headers.items()}


def install(app: Flask) -> None:
    """Checks client networks, Host and Origin of every request of an application."""
    config = settings.get()
    networks, origins = config.allowed_networks, config.cors_origins
    # On other than loopback addresses, every name is allowed unless OCR_HOSTS is set.
    names = config.hosts if config.on_loopback or config.hosts else None

    def check() -> None:
        if networks and not any(client_address(request) in network for network in networks):
            raise errors.AddressRefused()
        if names is not None and not _is_ours(request.host, names):
            raise errors.HostRefused(f"{request.host[:100]!r} is not a name of this server")
        if _is_foreign(request) and request.headers.get("Origin") not in origins:
            raise errors.CrossSite()

    def allow(response: Response) -> Response:
        return _allow(response, origins)

    app.before_request(check)
    if origins:
        app.after_request(allow)
    if config.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's documented way
            app.wsgi_app, x_for=config.trusted_proxies, x_proto=config.trusted_proxies, x_host=0
        )


def client_address(req: Request) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns the IP address of the client. IPv4-mapped IPv6 addresses become IPv4."""
    return _ip_address(req.remote_addr or "")


@lru_cache(maxsize=4096)
def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise errors.AddressRefused("The IP address of the client is unknown") from None
    return getattr(address, "ipv4_mapped", None) or address


def _is_ours(host: str, names: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return settings.is_loopback(name) or name in names


def _is_foreign(req: Request) -> bool:
    """Returns whether a request may change data and was sent by a page of another site.

    Browsers send Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/) or, over plain HTTP, only
    Origin; other clients send neither. Requests with a bearer token need no check: a page of
    another site cannot send one without a CORS preflight. Passwords do need it, because browsers
    send stored ones automatically, also for embedded resources.
    """
    if bearer(req) is not None:
        return False
    safe = req.method in _SAFE and req.endpoint not in _unsafe_gets()
    if safe and password(req) is None:
        return False
    site = req.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = req.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != req.host


def bearer(req: Request) -> str | None:
    """Returns the token in `Authorization: Bearer`, or None (RFC 6750, section 2.1)."""
    scheme, _, text = req.headers.get("Authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def password(req: Request) -> str | None:
    """Returns the password in `Authorization: Basic` (RFC 7617), if it can be a token, or None."""
    scheme, _, text = req.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic" or req.blueprint not in basic_auth():
        return None
    return _after_colon(text)


def _after_colon(text: str) -> str:
    try:
        # Werkzeug fails on non-ASCII characters.
        return base64.b64decode(text.strip()).decode().partition(":")[2]
    except ValueError:
        return ""  # not a valid token


def token(req: Request) -> str | None:
    """Returns the token in the request's headers, as its protocol sends it, or None.

    Cookies are not included, because browsers send them automatically.
    """
    found = bearer(req)
    header = _token_headers().get(req.blueprint or "")
    if found is None and header:
        found = req.headers.get(header) or None
    header = _pair_headers().get(req.blueprint or "")
    if found is None and header and req.headers.get(header):
        found = _after_colon(req.headers[header])
    return password(req) if found is None else found


def _allow(response: Response, origins: Collection[str]) -> Response:
    """Adds CORS headers for allowed origins (https://fetch.spec.whatwg.org)."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin", "")
    if origin not in origins:
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _CORS_RESPONSE_HEADERS
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
        response.headers["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = "600"
    return response
