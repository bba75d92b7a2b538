"""A device of the swarm: runs OCR on pages of a server with the Tesseract of this machine.

It retries when the network fails, renews its leases, and asks the servers that a server refers it
to when no page is waiting. It skips those that cannot be reached or refuse it, and sends them no
token. When it stops, it releases its unfinished pages. It uses only the HTTP API of the server.
"""

from __future__ import annotations

import io
import logging
import math
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

from ocr_tasks.plugin import engine, tesseract

log = logging.getLogger(__name__)

#: Time limit of a page in seconds.
_PAGE_SECONDS = 300.0

#: Seconds between two checks for finished pages.
_TICK = 0.5

#: First and longest pause before a failed request is retried, in seconds.
_RETRY_FIRST, _RETRY_MOST = 1.0, 60.0

#: Maximum number of servers that are asked in a row, and of `via` in a request.
_MAX_REFERRALS, _MAX_VIA = 20, 100

#: Seconds for which a server is skipped that cannot be reached.
_SKIP_SECONDS = 60.0

#: Maximum number of servers that are skipped, and of those with open connections. Servers with
#: leased pages are not counted.
_MAX_SKIPPED, _MAX_SERVERS = 1000, 50

#: Maximum duration of a lease in seconds.
_MAX_LEASE_SECONDS = 86400

#: A server's mark in `via`.
_MARK = re.compile("[0-9a-f]{12}", re.ASCII)

#: The links of a lease.
_LINKS = ("image", "transcript", "renew", "release", "failure")

#: Exceptions that any response of another server can cause.
_UNUSABLE = (
    *(httpx.HTTPError, httpx.InvalidURL),
    *(ArithmeticError, LookupError, RecursionError, TypeError, ValueError),
)

#: Media types that Pillow opens.
_IMAGES = (
    *("image/png", "image/jpeg", "image/tiff", "image/webp", "image/gif", "image/bmp"),
    *("image/jp2", "image/x-pcx", "image/vnd.adobe.photoshop"),
)


class Refused(Exception):
    """The server rejects this device; the message says why."""


@dataclass
class Done:
    """What a device has done so far.

    `pages` were transcribed, `failed` could not be, and for `lost` ones the server accepted no
    transcript. `seconds` is the total time of `pages`, and `servers` their number by URL.
    """

    pages: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0
    servers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Page:
    """A page that this device has leased. `lease` contains fields of the server's JSON."""

    server: httpx.Client
    lease: dict[str, Any]


@dataclass(frozen=True)
class _Offer:
    """The response to a request for pages. `peer` is another server that may have pages."""

    pages: list[_Page]
    retry_after: float
    peer: str | None
    via: list[str]


class _TokenAuth(httpx.Auth):
    """Sends a token to the origin of the server that issued it, and to no other."""

    def __init__(self, token: str, url: str) -> None:
        self._token = token
        self._origin = _origin(httpx.URL(url))

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        if _origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


Read = Callable[[bytes, Sequence[str], float], str]


def read(image: bytes, languages: Sequence[str], dpi: float) -> str:
    """Returns the hOCR of a page image, from Tesseract's library or, if missing, its program."""
    if not tesseract.available():
        command = ["tesseract", "stdin", "stdout", "-l", "+".join(languages)]
        command += ["--dpi", str(round(dpi)), "hocr"]
        run = subprocess.run(
            command, input=image, capture_output=True, timeout=_PAGE_SECONDS, check=True
        )
        return run.stdout.decode()
    with Image.open(io.BytesIO(image)) as picture:
        picture.load()
        picture.info["dpi"] = (dpi, dpi)
        model = tesseract.Model(tuple(languages))
        return tesseract.read(picture, model, seconds=_PAGE_SECONDS).hocr


class Device:
    """Runs OCR on pages of a server, several at a time."""

    def __init__(
        self,
        url: str,
        token: str,
        name: str,
        at_once: int,
        languages: Sequence[str] | None = None,
        read: Read = read,
    ) -> None:
        """`at_once` is the number of pages at a time. `languages` defaults to those installed."""
        self._auth = _TokenAuth(token.strip(), url) if token.strip() else None
        self._skipped: dict[str, float] = {}
        self._servers: dict[str, httpx.Client] = {}
        self._home = url.rstrip("/")
        self._name = name
        self._at_once = at_once
        self._languages = sorted(languages or engine.languages())
        self._read = read
        self._open: dict[str, _Page] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.done = Done()

    def leave(self) -> None:
        """Stops the device, which then releases its unfinished pages."""
        self._stopping.set()

    def work(
        self, until_empty: bool = False, report: Callable[[Done, int], None] = lambda *_: None
    ) -> None:
        """Processes pages until `leave` is called or, with `until_empty`, no page is waiting.

        Calls `report(done, running)` at least every half second; `running` is the number of pages
        that are being processed. Raises Refused if the server rejects this device.
        """
        try:
            self._work(until_empty, report)
        finally:
            for server in self._servers.values():
                server.close()

    def _work(self, until_empty: bool, report: Callable[[Done, int], None]) -> None:
        poll_at, pause = 0.0, _RETRY_FIRST
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self._at_once) as pool, self._renewing():
            try:
                while not self._stopping.is_set():
                    free = self._at_once - len(running)
                    if free and time.monotonic() >= poll_at:
                        try:
                            pages, wait_seconds = self._lease(free)
                            pause = _RETRY_FIRST
                        except httpx.HTTPError as error:
                            log.warning("the server cannot be reached: %s", error)
                            pages, wait_seconds = [], pause * random.uniform(0.5, 1)  # noqa: S311
                            pause = min(_RETRY_MOST, pause * 2)
                        if not pages:
                            if until_empty and not running and pause == _RETRY_FIRST:
                                return
                            poll_at = time.monotonic() + wait_seconds
                        running |= {pool.submit(self._process, page) for page in pages}
                    report(self.done, len(running))
                    if running:
                        _, running = wait(running, _TICK, return_when=FIRST_COMPLETED)
                    else:
                        self._stopping.wait(_TICK)
            finally:
                self._stopping.set()
                for future in running:
                    future.cancel()
                self._release_all()

    # Leasing pages

    def _lease(self, count: int) -> tuple[list[_Page], float]:
        """Leases pages from the server, or from the servers that it refers to.

        Returns up to `count` pages, and the seconds until the next request. After a server without
        pages or one that cannot be used, the home server names another one.
        """
        offer = self._offer(self._home, count, [])
        seconds = offer.retry_after * random.uniform(1, 1.5)  # noqa: S311  # no secret
        for _ in range(_MAX_REFERRALS):
            if offer.pages or not offer.peer:
                break
            via = offer.via
            found = self._offer_of_peer(offer.peer, count, via)
            leads_on = found and (found.pages or found.peer)
            offer = found if found and leads_on else self._offer(self._home, count, via)
        return offer.pages, seconds

    def _offer_of_peer(self, peer: str, count: int, via: Sequence[str]) -> _Offer | None:
        """Requests pages from a server that another one referred to; None if it is skipped.

        It is skipped for a while if it cannot be reached, and for good if it refuses this device.
        """
        if self._skipped.get(peer, 0) > time.monotonic():
            return None
        try:
            return self._offer(peer, count, via)
        except (Refused, *_UNUSABLE) as error:
            log.warning("skipping the server %s: %s", peer, error)
            seconds = math.inf if isinstance(error, Refused) else _SKIP_SECONDS
            if len(self._skipped) >= _MAX_SKIPPED:
                del self._skipped[next(iter(self._skipped))]
            self._skipped[peer] = time.monotonic() + seconds
            return None

    def _offer(self, url: str, count: int, via: Sequence[str]) -> _Offer:
        """Requests up to `count` pages from a server."""
        server = self._server(url)
        body = {
            "device": self._name,
            "languages": self._languages,
            "formats": ["hocr"],
            "images": _IMAGES,
            "count": count,
            "via": via,
        }
        response = server.post("/v1/swarm/leases", json=body)
        if response.status_code in (401, 403, 404, 422):
            raise Refused(_reason(response))
        response.raise_for_status()
        try:
            reply = response.json()
            pages = [_Page(server, _lease(server, lease)) for lease in reply["pages"][:count]]
            peer = None if reply["peer"] is None else _text(reply["peer"])
            marks = [mark for mark in map(str, reply["via"]) if _MARK.fullmatch(mark)]
            offer = _Offer(pages, _number(reply["retry_after"]), peer, marks[:_MAX_VIA])
        except _UNUSABLE:
            raise Refused(f"{url} is not a server of OCR Tasks") from None
        with self._lock:
            self._open |= {page.lease["lease"]: page for page in pages}
        return offer

    def _server(self, url: str) -> httpx.Client:
        if url not in self._servers:
            self._close_surplus()
            timeout = httpx.Timeout(30, read=120)
            self._servers[url] = httpx.Client(base_url=url, timeout=timeout, auth=self._auth)
        return self._servers[url]

    def _close_surplus(self) -> None:
        """Closes the connections to the oldest servers above the maximum, unless they are used."""
        with self._lock:
            used = {self._servers.get(self._home), *(page.server for page in self._open.values())}
        idle = [url for url, server in self._servers.items() if server not in used]
        for url in idle[: 1 - _MAX_SERVERS]:
            self._servers.pop(url).close()

    # Processing a page

    def _process(self, page: _Page) -> None:
        lease = page.lease
        started = time.monotonic()
        try:
            image = self._request(page, lambda: page.server.get(lease["image"]))
            if image is None or self._stopping.is_set():
                return
            try:
                hocr = self._read(image.content, lease["languages"], lease["dpi"])
            except Exception as error:  # another device may be able to process the page
                log.warning("OCR of %s failed: %r", lease["name"], error)
                self.done.failed += 1
                reason = {"reason": f"{type(error).__name__}: {error}"[:300]}
                self._request(page, lambda: page.server.post(lease["failure"], json=reason))
                return
            headers = {"Content-Type": "text/vnd.hocr+html"}
            content = hocr.encode()
            accepted = self._request(
                page, lambda: page.server.put(lease["transcript"], content=content, headers=headers)
            )
            if accepted is not None:
                self.done.pages += 1
                self.done.seconds += time.monotonic() - started
                url = str(page.server.base_url)
                self.done.servers[url] = self.done.servers.get(url, 0) + 1
        finally:
            if not self._stopping.is_set():
                with self._lock:
                    self._open.pop(lease["lease"], None)

    def _request(self, page: _Page, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Sends a request about a page until it succeeds, and returns the response.

        Returns None if the server rejects the request or the device stops, or if another server
        than the home server cannot be reached for the duration of a lease.
        """
        pause = _RETRY_FIRST
        is_home = page.server is self._servers[self._home]
        end = math.inf if is_home else time.monotonic() + page.lease["seconds"]
        while True:
            try:
                response = send()
                if response.is_success:
                    return response
                if response.status_code < 500 and response.status_code != 429:
                    log.info("the page was lost: %s", _reason(response))
                    self.done.lost += 1
                    return None
            except _UNUSABLE as error:
                log.warning("the server cannot be reached: %s", error)
            if time.monotonic() > end:
                self.done.lost += 1
                return None
            if self._stopping.wait(pause * random.uniform(0.5, 1)):  # noqa: S311  # no secret
                return None
            pause = min(_RETRY_MOST, pause * 2)

    # Renewing and releasing leases

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._renew, name="renew", daemon=True)
        thread.start()
        yield

    def _renew(self) -> None:
        while not self._stopping.wait(2):
            now = time.monotonic()
            with self._lock:
                pages = list(self._open.values())
            for page in pages:
                lease = page.lease
                if now < lease.setdefault("renew_at", now + lease["seconds"] / 3):
                    continue
                lease["renew_at"] = now + lease["seconds"] / 3
                with suppress(*_UNUSABLE):
                    page.server.post(lease["renew"])

    def _release_all(self) -> None:
        for page in list(self._open.values()):
            with suppress(*_UNUSABLE):
                page.server.post(page.lease["release"])


def _lease(server: httpx.Client, sent: Any) -> dict[str, Any]:
    """Returns the fields of a lease that a device uses, or raises one of `_UNUSABLE`."""
    if not all(_text(sent[link]).startswith("/") for link in _LINKS):
        raise ValueError("a link leads to another server")
    for link in _LINKS:
        server.build_request("POST", sent[link])
    return {
        **{name: _text(sent[name]) for name in ("lease", "name", *_LINKS)},
        "languages": [_text(language) for language in sent["languages"]],
        "dpi": _number(sent["dpi"]),
        "seconds": min(_number(sent["seconds"]), _MAX_LEASE_SECONDS),
    }


def _text(sent: Any) -> str:
    if not isinstance(sent, str):
        raise TypeError("no text")
    sent.encode()  # raises UnicodeEncodeError for a lone surrogate
    return sent


def _number(sent: Any) -> float:
    number = float(sent)
    if not math.isfinite(number):
        raise ValueError("no finite number")
    return number


def _reason(response: httpx.Response) -> str:
    try:
        problem = response.json()
        return f"{problem['detail']}. {problem['advice']} [{problem['code']}]"
    except _UNUSABLE:
        return f"HTTP status {response.status_code}"
