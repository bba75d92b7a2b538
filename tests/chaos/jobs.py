"""The documents that are uploaded during the faults, and their results."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.chaos import documents

FINAL = ("succeeded", "failed", "cancelled")

#: Status codes after which a client retries, according to the documentation.
_AGAIN = (502, 503, 507)


@dataclass
class Sent:
    """An accepted document."""

    id: str
    key: str
    code: tuple[str, ...]
    pages: int
    poison: bool
    cancelled: bool = False  # the cancellation was at least requested
    retries: int = 0


class Client(threading.Thread):
    """Uploads one document after the other until it is stopped, regardless of errors."""

    def __init__(self, url: str, seed: int, pause: float) -> None:
        super().__init__(daemon=True)
        self._dice = random.Random(seed)
        self._pause = pause
        self._http = httpx.Client(base_url=url, timeout=30)
        self._codes = _shuffled(self._dice)
        self.sent: list[Sent] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            self.send()
            self._stopped.wait(self._dice.uniform(0, 2 * self._pause))

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive():
            self.join()

    def send(self) -> None:
        """Uploads one document until it is accepted."""
        dice, code = self._dice, next(self._codes)
        poison = dice.random() < 0.04
        pages = 1 if poison else dice.randint(1, documents.MOST_PAGES)
        title = "fault: poison" if poison else ""
        document = documents.scan(code, pages, title)
        parts = [("file", ("scan.pdf", document, "application/pdf"))]
        data = {"title": title} if title else {}
        key = str(uuid.UUID(int=dice.getrandbits(128)))
        while not self._stopped.is_set():
            with contextlib.suppress(httpx.TransportError):
                answer = self._http.post(
                    "/v1/jobs", files=parts, data=data, headers={"Idempotency-Key": key}
                )
                if answer.status_code == 202:
                    self._note(Sent(answer.json()["id"], key, code, pages, poison))
                    return
                assert answer.status_code in _AGAIN, answer.text
            time.sleep(0.2)

    def _note(self, job: Sent) -> None:
        self.sent.append(job)
        if self._dice.random() < 0.1:
            job.cancelled = True  # even if the response is lost
            with contextlib.suppress(httpx.TransportError):
                self._http.post(f"/v1/jobs/{job.id}/cancel")

    def close(self) -> None:
        self._http.close()

    # After the faults

    def job(self, sent: Sent) -> dict[str, Any]:
        answer = self._http.get(f"/v1/jobs/{sent.id}")
        return answer.json() if answer.status_code == 200 else {"state": str(answer.status_code)}

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def retry(self, sent: Sent) -> None:
        self._http.post(f"/v1/jobs/{sent.id}/retry").raise_for_status()
        sent.retries += 1


def _shuffled(dice: random.Random) -> Iterator[tuple[str, ...]]:
    codes = list(itertools.islice(documents.codes(), 9000))
    dice.shuffle(codes)
    return iter(codes)
