"""Latency of status polls while every core runs OCR.

    python -m bench.polls [DOCUMENT [LANGUAGE]]

Services with different numbers and priorities of worker processes, one after the other. In each,
clients poll the status of a document until it is done. They run on the same cores, at the priority
of the web server.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.report import publish, table
from bench.service import FINAL, Service, document, warm

CLIENTS, INTERVAL, ROUNDS = 20, 0.2, 3
CORES = len(os.sched_getaffinity(0))

SETTINGS = {
    "default": {},
    "`OCR_WORKER_NICE=0`": {"OCR_WORKER_NICE": "0"},
    "`OCR_WORKER_NICE=10`": {"OCR_WORKER_NICE": "10"},
    f"`OCR_WORKER_PROCESSES={CORES + 1}`": {"OCR_WORKER_PROCESSES": str(CORES + 1)},
}


class Poller(threading.Thread):
    """A client that polls a job until it has ended, and records how long each poll takes."""

    def __init__(self, url: str, path: str, delay: float) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url).netloc
        self._path = path
        self._delay = delay
        self.seconds: list[float] = []

    def run(self) -> None:
        time.sleep(self._delay)  # the clients do not poll at the same moment
        connection = HTTPConnection(self._address, timeout=60)
        state = ""
        while state not in FINAL:
            started = time.monotonic()
            connection.request("GET", self._path)
            body = connection.getresponse().read()
            self.seconds.append(time.monotonic() - started)
            state = json.loads(body)["state"]
            time.sleep(INTERVAL)
        connection.close()


def measure(service: Service, source: Path, language: str) -> tuple[float, list[float]]:
    """Returns the seconds of a document, and the seconds of each poll meanwhile."""
    started = time.monotonic()
    job = service.submit(source, languages=language)
    pollers = [
        Poller(service.stack.url, job["links"]["self"], INTERVAL * number / CLIENTS)
        for number in range(CLIENTS)
    ]
    for poller in pollers:
        poller.start()
    service.wait(job)
    seconds = time.monotonic() - started
    for poller in pollers:
        poller.join()
    return seconds, [taken for poller in pollers for taken in poller.seconds]


def main() -> None:
    source, language = document()
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    polls: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for number in range(1, ROUNDS + 1):
        for name, environment in SETTINGS.items():
            with warm(source, language, **environment) as service:
                total, taken = measure(service, source, language)
            seconds[name].append(total)
            polls[name] += taken
            print(f"  round {number}: {name}: {total:.2f} s, {len(taken)} polls", flush=True)
    rows = []
    for name, taken in polls.items():
        percentiles = statistics.quantiles(taken, n=100)
        milliseconds = (percentiles[49], percentiles[98], max(taken))
        total = statistics.median(seconds[name])
        rows.append([name, f"{total:.2f}", *(f"{1000 * value:.0f}" for value in milliseconds)])
    publish(
        "polls",
        "Status polls during OCR",
        f"{source.name} on {CORES} cores; {CLIENTS} clients poll its status every {INTERVAL:g} s "
        f"from the same machine. Seconds of the document: median of {ROUNDS} rounds.",
        table(["", "document s", "poll p50 ms", "p99 ms", "maximum ms"], rows),
    )


if __name__ == "__main__":
    main()
