"""Downloads files from URLs that clients provide.

Such URLs are untrusted. As for webhooks, every host is checked when it is connected to, including
hosts of redirects (see `url_guard`).
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

#: Concurrent downloads, and redirects to follow for one file.
AT_ONCE, _MAX_REDIRECTS = 4, 5

#: Seconds to connect, and to wait for data.
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0


class Fetcher:
    """Downloads files within limits that apply to all files together. Must be closed."""

    def __init__(
        self,
        seconds: float,
        most_bytes: int,
        failed: type[errors.RequestError],
        too_large: type[errors.RequestError],
        resolve: url_guard.Resolve = url_guard.resolve,
    ) -> None:
        """`seconds` and `most_bytes` apply to all files together.

        `failed` and `too_large` are the types of the errors to raise.
        """
        backend = url_guard.GuardedBackend(seconds, resolve)
        self._pool = httpcore.ConnectionPool(network_backend=backend, max_connections=AT_ONCE)
        self._failed, self._too_large = failed, too_large
        self._remaining = self._limit = most_bytes
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def close(self) -> None:
        """Closes all connections."""
        self._pool.close()

    def give_up(self) -> None:
        """Cancels all running downloads."""
        self._cancelled.set()

    @contextmanager
    def open(self, url: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Requests a URL. Yields the URL after all redirects, and the content in chunks."""
        current = url
        for _ in range(_MAX_REDIRECTS + 1):
            with self._failures(current):
                parsed = url_guard.parse(current)
                with self._get(parsed) as response:
                    target = self._redirect_target(parsed, response)
                    if target is None:
                        yield current, self._chunks(response)
                        return
            current = target
        raise self._failed(f"{url:.200} redirects more than {_MAX_REDIRECTS} times")

    def _get(self, url: httpx.URL) -> Any:
        # Compressed responses would need limits for the decompressed size as well.
        headers = {"User-Agent": "ocr-tasks", "Accept-Encoding": "identity"}
        timeouts = {"read": _READ_SECONDS, "write": _READ_SECONDS, "pool": _READ_SECONDS}
        return self._pool.stream(
            "GET",
            httpcore.URL(str(url)),
            headers=list(headers.items()),
            extensions={"timeout": {"connect": _CONNECT_SECONDS, **timeouts}},
        )

    def _chunks(self, response: httpcore.Response) -> Iterator[bytes]:
        for chunk in response.iter_stream():
            self._count(len(chunk))
            yield chunk

    def _count(self, size: int) -> None:
        if self._cancelled.is_set():
            raise self._failed("The download of another file failed")
        with self._lock:
            self._remaining -= size
            if self._remaining < 0:
                raise self._too_large(f"The download is larger than {self._limit} bytes")

    @contextmanager
    def _failures(self, url: str) -> Iterator[None]:
        """Converts exceptions of the connection to errors for clients."""
        reason = ""
        try:
            yield
        except (url_guard.Refused, errors.CallbackRefused) as refused:
            reason = str(refused)
        except (httpcore.TimeoutException, TimeoutError):
            reason = "the server did not respond in time"
        except (
            *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol),
            OSError,
        ):
            reason = "the connection failed"
        if reason:
            raise self._failed(f"{url:.200}: {reason}")

    def _redirect_target(self, url: httpx.URL, response: httpcore.Response) -> str | None:
        """Returns the URL that a response redirects to, or None if it contains the file."""
        import httpx  # `url_guard` has loaded it already

        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in (301, 302, 303, 307, 308) and b"location" in headers:
            try:
                return str(url.join(headers[b"location"]).copy_with(fragment=None))
            except (httpx.InvalidURL, ValueError):
                raise self._failed(f"{url!s:.200} redirects to an invalid URL") from None
        if response.status != 200:
            raise self._failed(f"{url!s:.200} responded with status {response.status}")
        if headers.get(b"content-encoding", "identity") != "identity":
            raise self._failed(f"{url!s:.200} sent a compressed response")
        return None
