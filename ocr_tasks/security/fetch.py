"""Fetches what is at an address of the web.

Addresses come from strangers, so they are asked as those of webhooks are (see `addresses`): each
host is vetted when it is connected to, also those that an answer sends on to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore

from ocr_tasks import errors
from ocr_tasks.security import url_guard

if TYPE_CHECKING:
    import httpx

#: Files that are fetched at once, and answers that may send on to another address.
AT_ONCE, _MOST_HOPS = 4, 5

#: Seconds to connect, and to wait for something to come.
_CONNECT, _SILENCE = 10.0, 30.0


class Fetcher:
    """Fetches within limits that hold for everything together. Close it in the end."""

    def __init__(
        self,
        seconds: float,
        most_bytes: int,
        failed: type[errors.RequestError],
        too_large: type[errors.RequestError],
        resolve: url_guard.Resolve = url_guard.resolve,
    ) -> None:
        """`most_bytes` is for all files; `failed` and `too_large` are what it raises."""
        backend = url_guard.VettedBackend(seconds, resolve)
        self._pool = httpcore.ConnectionPool(network_backend=backend, max_connections=AT_ONCE)
        self._failed, self._too_large = failed, too_large
        self._left = self._most = most_bytes
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def give_up(self) -> None:
        """Ends what is being fetched."""
        self._given_up.set()

    @contextmanager
    def open(self, url: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Where an address leads in the end, and what is there, a piece at a time."""
        asked = url
        for _ in range(_MOST_HOPS + 1):
            with self._failures(asked):
                parsed = url_guard.parse(asked)
                with self._get(parsed) as answer:
                    onward = self._onward(parsed, answer)
                    if onward is None:
                        yield asked, self._pieces(answer)
                        return
            asked = onward
        raise self._failed(f"{url:.200} sends on more than {_MOST_HOPS} times")

    def _get(self, url: httpx.URL) -> Any:
        # Packed answers would have to be unpacked within limits as well.
        headers = {"User-Agent": "ocr-tasks", "Accept-Encoding": "identity"}
        timeouts = {"connect": _CONNECT, "read": _SILENCE, "write": _SILENCE, "pool": _SILENCE}
        return self._pool.stream(
            "GET",
            httpcore.URL(str(url)),
            headers=list(headers.items()),
            extensions={"timeout": timeouts},
        )

    def _pieces(self, answer: httpcore.Response) -> Iterator[bytes]:
        for piece in answer.iter_stream():
            self._count(len(piece))
            yield piece

    def _count(self, size: int) -> None:
        if self._given_up.is_set():
            raise self._failed("another file could not be fetched")
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise self._too_large(f"what is fetched has more than {self._most} bytes")

    @contextmanager
    def _failures(self, url: str) -> Iterator[None]:
        """Says what goes wrong, in our words."""
        reason = ""
        try:
            yield
        except (url_guard.Refused, errors.CallbackRefused) as refused:
            reason = str(refused)
        except (httpcore.TimeoutException, TimeoutError):
            reason = "no answer in time"
        except (
            *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol),
            OSError,
        ):
            reason = "the connection failed"
        if reason:
            raise self._failed(f"{url:.200}: {reason}")

    def _onward(self, url: httpx.URL, answer: httpcore.Response) -> str | None:
        """The address that an answer sends on to; None if it is what was asked for."""
        import httpx  # loaded by `addresses` already

        headers = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
        if answer.status in (301, 302, 303, 307, 308) and b"location" in headers:
            try:
                return str(url.join(headers[b"location"]).copy_with(fragment=None))
            except (httpx.InvalidURL, ValueError):
                raise self._failed(f"{url!s:.200} sends on to no address") from None
        if answer.status != 200:
            raise self._failed(f"{url!s:.200} answered {answer.status}")
        if headers.get(b"content-encoding", "identity") != "identity":
            raise self._failed(f"{url!s:.200} answered packed")
        return None
