"""A device of the swarm: takes pages from a server, reads them with the Tesseract here, answers.

It goes on through failures of the network, prolongs the leases of what it is at, goes to the other
servers that a server names when no page waits there, and gives back what it has not read when it
leaves. It knows the server by its HTTP interface alone.
"""

from __future__ import annotations

import io
import logging
import random
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

#: Seconds that one page may take, and between two looks at what has happened.
_PAGE_SECONDS, _TICK = 300.0, 0.5

#: Seconds after which a server that cannot be reached is asked again, at first and at most.
_AGAIN_FIRST, _AGAIN_MOST = 1.0, 60.0

#: What Pillow opens; the server says what a page is.
_IMAGES = (
    *("image/png", "image/jpeg", "image/tiff", "image/webp", "image/gif", "image/bmp"),
    *("image/jp2", "image/x-pcx", "image/vnd.adobe.photoshop"),
)


class Refused(Exception):
    """The server does not want this device; the text says why."""


@dataclass
class Done:
    """What a device has done so far."""

    pages: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0
    servers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Page:
    """A page that this device has."""

    server: httpx.Client
    lease: dict[str, Any]


Read = Callable[[bytes, Sequence[str], float], str]


def read(image: bytes, languages: Sequence[str], dpi: float) -> str:
    """Returns a page image's hOCR from this machine's Tesseract: the library, else the program."""
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
    """Reads pages of a server, several at once."""

    def __init__(
        self,
        url: str,
        token: str,
        name: str,
        at_once: int,
        languages: Sequence[str] | None = None,
        read: Read = read,
    ) -> None:
        """`languages` None: all that Tesseract has here."""
        self._headers = {"Authorization": f"Bearer {token.strip()}"} if token else {}
        self._servers: dict[str, httpx.Client] = {}
        self._home = url.rstrip("/")
        self._name = name
        self._at_once = at_once
        self._languages = sorted(languages or engine.languages())
        self._read = read
        self._open: dict[str, _Page] = {}
        self._lock = threading.Lock()
        self._left = threading.Event()
        self.done = Done()

    def leave(self) -> None:
        """Has the device stop; what it has not read is given back."""
        self._left.set()

    def work(
        self, until_empty: bool = False, tell: Callable[[Done, int], None] = lambda *_: None
    ) -> None:
        """Reads pages until it is told to leave, or `until_empty`.

        `tell(done, open)` is called all the time.
        """
        ask_at, pause = 0.0, _AGAIN_FIRST
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self._at_once) as pool, self._renewing():
            try:
                while not self._left.is_set():
                    free = self._at_once - len(running)
                    if free and time.monotonic() >= ask_at:
                        try:
                            pages, wait_seconds = self._ask(free)
                            pause = _AGAIN_FIRST
                        except httpx.HTTPError as error:
                            log.warning("the server cannot be reached: %s", error)
                            pages, wait_seconds = [], pause * random.uniform(0.5, 1)  # noqa: S311
                            pause = min(_AGAIN_MOST, pause * 2)
                        if not pages:
                            if until_empty and not running and pause == _AGAIN_FIRST:
                                return
                            ask_at = time.monotonic() + wait_seconds
                        running |= {pool.submit(self._do, page) for page in pages}
                    tell(self.done, len(running))
                    if running:
                        _, running = wait(running, _TICK, return_when=FIRST_COMPLETED)
                    else:
                        self._left.wait(_TICK)
            finally:
                self._left.set()
                for future in running:
                    future.cancel()
                self._give_back()
        for server in self._servers.values():
            server.close()

    # Asking

    def _ask(self, count: int) -> tuple[list[_Page], float]:
        """Pages of this server, else of those that it names; and seconds until the next try."""
        url, seconds = self._home, 5.0
        via: list[str] = []
        for _ in range(20):
            server = self._server(url)
            body = {
                "device": self._name,
                "languages": self._languages,
                "formats": ["hocr"],
                "images": _IMAGES,
                "count": count,
                "via": via,
            }
            answer = server.post("/v1/swarm/leases", json=body)
            if answer.status_code in (401, 403, 404, 422):
                raise Refused(_reason(answer))
            answer.raise_for_status()
            found = answer.json()
            pages = [_Page(server, lease) for lease in found["pages"]]
            with self._lock:
                self._open |= {page.lease["lease"]: page for page in pages}
            seconds = found["retry_after"] * random.uniform(1, 1.5)  # noqa: S311  # no secret
            if pages or not found["peer"]:
                return pages, seconds
            url, via = found["peer"], found["via"]
        return [], seconds

    def _server(self, url: str) -> httpx.Client:
        if url not in self._servers:
            timeout = httpx.Timeout(30, read=120)
            self._servers[url] = httpx.Client(base_url=url, timeout=timeout, headers=self._headers)
        return self._servers[url]

    # One page

    def _do(self, page: _Page) -> None:
        lease = page.lease
        began = time.monotonic()
        try:
            image = self._insist(lambda: page.server.get(lease["image"]))
            if image is None or self._left.is_set():
                return
            try:
                hocr = self._read(image.content, lease["languages"], lease["dpi"])
            except Exception as error:  # whatever it is, others may be able to read it
                log.warning("%s cannot be read here: %r", lease["name"], error)
                self.done.failed += 1
                reason = {"reason": f"{type(error).__name__}: {error}"[:300]}
                self._insist(lambda: page.server.post(lease["failure"], json=reason))
                return
            headers = {"Content-Type": "text/vnd.hocr+html"}
            content = hocr.encode()
            taken = self._insist(
                lambda: page.server.put(lease["transcript"], content=content, headers=headers)
            )
            if taken is not None:
                self.done.pages += 1
                self.done.seconds += time.monotonic() - began
                where = str(page.server.base_url)
                self.done.servers[where] = self.done.servers.get(where, 0) + 1
        finally:
            if not self._left.is_set():
                with self._lock:
                    self._open.pop(lease["lease"], None)

    def _insist(self, ask: Callable[[], httpx.Response]) -> httpx.Response | None:
        """The answer to a request, after as many tries as it takes; None: the page is lost."""
        pause = _AGAIN_FIRST
        while True:
            try:
                answer = ask()
                if answer.is_success:
                    return answer
                if answer.status_code < 500 and answer.status_code != 429:
                    log.info("the page is lost: %s", _reason(answer))
                    self.done.lost += 1
                    return None
            except httpx.HTTPError as error:
                log.warning("the server cannot be reached: %s", error)
            if self._left.wait(pause * random.uniform(0.5, 1)):  # noqa: S311  # no secret
                return None
            pause = min(_AGAIN_MOST, pause * 2)

    # All pages that are open

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._renew, name="renew", daemon=True)
        thread.start()
        yield

    def _renew(self) -> None:
        while not self._left.wait(2):
            now = time.monotonic()
            with self._lock:
                pages = list(self._open.values())
            for page in pages:
                lease = page.lease
                if now < lease.setdefault("renew_at", now + lease["seconds"] / 3):
                    continue
                lease["renew_at"] = now + lease["seconds"] / 3
                with suppress(httpx.HTTPError):
                    page.server.post(lease["renew"])

    def _give_back(self) -> None:
        for page in list(self._open.values()):
            with suppress(httpx.HTTPError):
                page.server.post(page.lease["release"])


def _reason(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return f"{problem['detail']}. {problem['advice']} [{problem['code']}]"
    except (ValueError, LookupError, TypeError):
        return f"HTTP status {answer.status_code}"
