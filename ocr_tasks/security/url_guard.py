"""Which addresses given to us may be asked for: a URL of a stranger is a trap.

A server inside a network reaches what its users do not: a cloud's metadata, a Redis, a printer. So
a URL is parsed once, by the parser that connects; its host is resolved once, each address that
it has must be public, or in a network that the operator allows; and the connection goes to exactly
that address.
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

_MOST_CHARACTERS = 2048

#: Below 1024 only these; above, not those that other services are known to listen on.
_LOW_PORTS = {80, 443}
_OTHER_SERVICES = {2049, 2375, 2376, 3306, 5432, 5671, 5672, 6379, 6380, 9200, 9300, 11211, 27017}

#: Public by `ipaddress`, and yet a way to somewhere else: IPv4 inside IPv6 in all its forms, and
#: networks for special purposes (https://www.iana.org/assignments/iana-ipv4-special-registry/).
_SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "198.18.0.0/15", "240.0.0.0/4"),
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10"),
        "3fff::/20",
    )
]


class Refused(Exception):
    """The address is none that may be asked; the text says why, without telling what is there."""


Resolve = Callable[[str, int], Iterable[str]]


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(row[4][0]) for row in rows]


def url(text: str) -> httpx.URL:
    """Parses a URL as whatever connects to it does."""
    import httpx  # only now: it takes a tenth of the time in which a server starts

    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error


def parse(text: str) -> httpx.URL:
    """Returns the URL if it may be requested; its host name is resolved on the request."""
    try:
        return _parse(text)
    except Refused as refused:
        raise errors.CallbackRefused(str(refused)) from None


def _parse(text: str) -> httpx.URL:
    if len(text) > _MOST_CHARACTERS or not text.isprintable() or " " in text or "\\" in text:
        raise Refused("a URL has no spaces, backslashes or control characters, nor so many letters")
    try:
        asked = url(text)
    except ValueError:
        raise Refused("that is no URL") from None
    if asked.scheme not in ("http", "https") or not asked.host:
        raise Refused("only http:// and https:// addresses can be asked")
    if asked.userinfo or asked.fragment or "@" in asked.netloc.decode():
        raise Refused("a URL must not have a user, a password or a fragment")
    if not _is_good_port(_port(asked)):
        raise Refused(f"port {_port(asked)} is not for web servers")
    host = asked.host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        vet(["127.0.0.1"])
    literal = _literal(host)
    if literal:
        vet([literal])
    return asked


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _is_good_port(port: int) -> bool:
    return port in _LOW_PORTS or (1024 <= port <= 65535 and port not in _OTHER_SERVICES)


def _literal(host: str) -> str | None:
    """The address that a host is, in whatever form the system takes for one (`127.1`, `0x7f.1`)."""
    try:
        flags = socket.AI_NUMERICHOST
        return str(socket.getaddrinfo(host, None, flags=flags)[0][4][0])
    except (OSError, UnicodeError):
        return None


def vet(addresses: Iterable[str]) -> str:
    """The first of the addresses, if all of them may be asked."""
    found = list(addresses)
    allowed = settings.get().callback_allowed
    for text in found:
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
        if not is_public(address) and not any(address in network for network in allowed):
            raise Refused("the address is not a public one (OCR_CALLBACK_NETWORKS allows others)")
    if not found:
        raise Refused("the host has no address")
    return found[0]


def _unwrapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether an address is on the internet and nowhere else."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _SPECIAL)
    )


class VettedBackend(httpcore.NetworkBackend):
    """Connects to vetted addresses only, and gives up at a time, however slowly bytes come."""

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
            address = vet(self._resolve(host, port))
        except OSError as error:
            raise httpcore.ConnectError("the host cannot be resolved") from error
        stream = self._backend.connect_tcp(
            address, port, _left(self._deadline, timeout), local_address, socket_options
        )
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection that ends at a time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("that takes too long")
    return left if timeout is None else min(left, timeout)
