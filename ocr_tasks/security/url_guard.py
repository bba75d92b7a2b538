"""Protection against server-side request forgery (SSRF) by URLs that clients provide.

A server can reach hosts that its clients cannot, e.g. a cloud's metadata service, Redis or a
printer. Therefore a URL is parsed once, by the library that connects, and its host is resolved
once. All of its IP addresses must be public, or in a network that the administrator allows. The
connection is made to exactly the IP address that was checked.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import httpcore

from ocr_tasks import errors, settings

if TYPE_CHECKING:
    import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_CHARACTERS = 2048

#: Allowed ports below 1024, and forbidden ports above it, which other services use.
_LOW_PORTS = {80, 443}
_OTHER_SERVICES = {2049, 2375, 2376, 3306, 5432, 5671, 5672, 6379, 6380, 9200, 9300, 11211, 27017}

#: Networks that `ipaddress` considers global, but that lead to other networks: all forms of IPv4 in
#: IPv6, and special purposes (https://www.iana.org/assignments/iana-ipv4-special-registry/).
_SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "198.18.0.0/15", "240.0.0.0/4"),
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10"),
        "3fff::/20",
    )
]


class Refused(Exception):
    """The URL must not be requested. The message says why, but not what is at the URL."""


Resolve = Callable[[str, int], Iterable[str]]


def resolve(host: str, port: int) -> list[str]:
    """Returns all IP addresses of a host."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


def url(text: str) -> httpx.URL:
    """Parses a URL with the library that connects to it. ValueError if it is invalid."""
    import httpx  # not at the top, because it takes a tenth of the server's start time

    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def parse(text: str) -> httpx.URL:
    """Returns the URL if it may be requested. Its host name is resolved and checked later."""
    try:
        return _parse(text)
    except Refused as refused:
        raise errors.CallbackRefused(str(refused)) from None


def _parse(text: str) -> httpx.URL:
    if len(text) > _MAX_CHARACTERS:
        raise Refused(f"the URL has more than {_MAX_CHARACTERS} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise Refused("the URL contains spaces, backslashes or control characters")
    try:
        parsed = url(text)
    except ValueError:
        raise Refused("the URL is invalid") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Refused("only http:// and https:// URLs are allowed")
    if parsed.userinfo or parsed.fragment or "@" in parsed.netloc.decode():
        raise Refused("the URL must not contain a user name, a password or a fragment")
    if not _is_allowed_port(_port(parsed)):
        raise Refused(f"port {_port(parsed)} is not allowed")
    host = parsed.host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        check_addresses(["127.0.0.1"])
    literal = _literal(host)
    if literal:
        check_addresses([literal])
    return parsed


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _is_allowed_port(port: int) -> bool:
    return port in _LOW_PORTS or (1024 <= port <= 65535 and port not in _OTHER_SERVICES)


def _literal(host: str) -> str | None:
    """Returns the IP address if a host is one, in any notation that the system accepts.

    Examples: `127.1`, `0x7f.1`. Returns None for a host name.
    """
    try:
        flags = socket.AI_NUMERICHOST
        return str(socket.getaddrinfo(host, None, flags=flags)[0][4][0])
    except (OSError, UnicodeError):
        return None


def check_addresses(addresses: Iterable[str]) -> str:
    """Returns the first IP address if all of them are allowed. Raises Refused otherwise."""
    candidates = list(addresses)
    allowed = settings.get().callback_networks
    for text in candidates:
        address = _unwrap(ipaddress.ip_address(text.partition("%")[0]))
        if not is_public(address) and not any(address in network for network in allowed):
            raise Refused("the IP address is not public (OCR_CALLBACK_NETWORKS allows others)")
    if not candidates:
        raise Refused("the host has no IP address")
    return candidates[0]


def _unwrap(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Returns whether an IP address is reachable only on the public internet."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _SPECIAL)
    )


class GuardedBackend(httpcore.NetworkBackend):
    """Connects only to allowed IP addresses, and enforces a deadline for the whole exchange."""

    def __init__(self, seconds: float, resolve: Resolve = resolve) -> None:
        self._deadline = time.monotonic() + seconds
        self._resolve = resolve
        self._backend: httpcore.NetworkBackend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """See httpcore."""
        try:
            address = check_addresses(self._resolve(host, port))
        except OSError as error:
            raise httpcore.ConnectError("the host cannot be resolved") from error
        stream = self._backend.connect_tcp(
            address, port, _remaining(self._deadline, timeout), local_address, socket_options
        )
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection with a deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        remaining = _remaining(self._deadline, timeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining)
        return _Stream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining(deadline: float, timeout: float | None) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return remaining if timeout is None else min(remaining, timeout)
