"""Where a request comes from: which network, under which name of ours, from whose web page.

A server on a loopback address is open by default, and yet within reach of every web page that its
user looks at. So what changes something has to come from our own page or from a program, and our
name has to be one of ours, lest a page calls us by its own (DNS rebinding).
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from functools import cache, lru_cache
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from ocr_tasks import errors, settings
from web import extensions

_SAFE = ("GET", "HEAD", "OPTIONS")


#: What pages of allowed sites may send, and read of an answer beyond its body.
_CORS_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_CORS_REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, Range, "
    "Tus-Resumable, Upload-Checksum, Upload-Defer-Length, Upload-Length, Upload-Metadata, "
    "Upload-Offset, X-HTTP-Method-Override, X-Request-ID, X-Requested-With"
)
_CORS_ANSWER_HEADERS = (
    "Content-Disposition, ETag, Link, Location, Retry-After, Tus-Checksum-Algorithm, "
    "Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Defer-Length, "
    "Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset"
)


@cache
def _unsafe_gets() -> frozenset[str]:
    return frozenset().union(*(one.unsafe_gets for one in extensions.installed()))


@cache
def basic_auth() -> frozenset[str]:
    """Blueprints whose clients may send a token as the password of `Authorization: Basic`."""
    return frozenset().union(*(one.basic_auth for one in extensions.installed()))


@cache
def _token_headers() -> Mapping[str, str]:
    return {k: v for one in extensions.installed() for k, v in one.token_headers.items()}


@cache
def _pair_headers() -> Mapping[str, str]:
    return {k: v for one in extensions.installed() for k, v in one.pair_headers.items()}


def install(app: Flask) -> None:
    """Makes an application refuse requests by where they come from."""
    config = settings.get()
    networks, origins = config.networks, config.origins
    # Elsewhere than on loopback any name will do, unless the operator says which.
    names = config.host_names if config.on_loopback or config.host_names else None

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
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # as Flask's documentation has it
            app.wsgi_app, x_for=config.trusted_proxies, x_proto=config.trusted_proxies, x_host=0
        )


def client_address(asked: Request) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of the client, that of an IPv4 client of an IPv6 server as IPv4."""
    return _address(asked.remote_addr or "")


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise errors.AddressRefused("the address of the client is not known") from None
    return getattr(address, "ipv4_mapped", None) or address


def _is_ours(host: str, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return settings.is_loopback(name) or name in names


def _is_foreign(asked: Request) -> bool:
    """Whether a request may change something and was made by the page of another site.

    Browsers tell it by Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/), over plain http only
    by Origin; programs tell nothing. No page of another site can send a token of the form Bearer
    without asking first (CORS), so that needs no look. A password that a browser has been given
    it sends by itself, also for what other sites embed.
    """
    if bearer(asked) is not None:
        return False
    safe = asked.method in _SAFE and asked.endpoint not in _unsafe_gets()
    if safe and password(asked) is None:
        return False
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = asked.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != asked.host


def bearer(asked: Request) -> str | None:
    """What the request has after `Authorization: Bearer`, or None (RFC 6750, section 2.1)."""
    scheme, _, text = asked.headers.get("Authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def password(asked: Request) -> str | None:
    """The password of `Authorization: Basic` (RFC 7617) where it may be a token, or None."""
    scheme, _, text = asked.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic" or asked.blueprint not in basic_auth():
        return None
    return _behind_name(text)


def _behind_name(text: str) -> str:
    try:
        # Not by Werkzeug, which stumbles over what is not ASCII.
        return base64.b64decode(text.strip()).decode().partition(":")[2]
    except ValueError:
        return ""  # as wrong as any


def token(asked: Request) -> str | None:
    """The token that a request brings, wherever its protocol has it; None where it brings none.

    That in a cookie is not meant: a browser sends it by itself.
    """
    found = bearer(asked)
    header = _token_headers().get(asked.blueprint or "")
    if found is None and header:
        found = asked.headers.get(header) or None
    header = _pair_headers().get(asked.blueprint or "")
    if found is None and header and asked.headers.get(header):
        found = _behind_name(asked.headers[header])
    return password(asked) if found is None else found


def _allow(response: Response, origins: frozenset[str]) -> Response:
    """Tells a browser that pages of a site may use this answer (https://fetch.spec.whatwg.org)."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin", "")
    if origin not in origins:
        return response
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = _CORS_ANSWER_HEADERS
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = _CORS_METHODS
        response.headers["Access-Control-Allow-Headers"] = _CORS_REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = "600"
    return response
