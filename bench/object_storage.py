"""S3 storage compared with a folder: the same document in both, in turn.

    python -m bench.object_storage [DOCUMENT [LANGUAGE]]

Two services with a Redis each run on one machine. The S3 server is `rclone serve s3` behind the
proxy of the tests (`tests/bucket.py`), without a network in between.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.report import publish, table
from bench.service import document
from tests.bucket import serving
from tests.conftest import running_stack, submit, wait_for_end

ROUNDS = 5
#: Requests of each kind in a round; the result is their median.
REQUESTS = 30


def main() -> None:
    source, language = document()
    seconds: dict[str, list[list[float]]] = {"folder": [], "bucket": []}
    with tempfile.TemporaryDirectory() as name, ExitStack() as life:
        bucket = life.enter_context(serving(Path(name) / "s3"))
        clients = {}
        for kind, settings in (("folder", {}), ("bucket", bucket.settings)):
            (Path(name) / kind).mkdir()
            stack = life.enter_context(running_stack(Path(name) / kind, **settings))
            clients[kind] = life.enter_context(stack.client())
            _measure(clients[kind], source, language)  # warm
        requests = len(bucket.requests)
        for number in range(ROUNDS):
            for kind, http in clients.items():
                seconds[kind].append(_measure(http, source, language))
                print(f"  {number + 1} {kind}: {seconds[kind][-1][0]:.2f} s")
        requests = round((len(bucket.requests) - requests) / ROUNDS)
    names = ("document, upload to text", "download the PDF", "64 KiB of the PDF", "list of pages")
    rows = []
    for place, what in enumerate(names):
        folder, s3 = (
            statistics.median(row[place] for row in seconds[kind]) for kind in ("folder", "bucket")
        )
        rows.append([what, f"{folder * 1000:.1f}", f"{s3 * 1000:.1f}", f"{s3 / folder:.2f}"])
    publish(
        "object_storage",
        "S3 storage",
        f"{source.name} with a folder and with S3 on the same machine, in turn; medians of "
        f"{ROUNDS} rounds, in milliseconds. A round sends {requests} requests to the S3 server.",
        table(["", "folder", "S3", "S3 / folder"], rows),
    )


def _measure(http: httpx.Client, source: Path, language: str) -> list[float]:
    """Returns the seconds of a document, its PDF, a part of the PDF, and the list of its pages."""
    started = time.monotonic()
    job = wait_for_end(http, submit(http, source, languages=language).json(), 3600)
    link = job["links"]["self"]
    http.get(f"{link}/text").raise_for_status()
    document_seconds = time.monotonic() - started
    assert job["state"] == "succeeded", job
    return [
        document_seconds,
        _median(lambda: http.get(f"{link}/pdf")),
        _median(lambda: http.get(f"{link}/pdf", headers={"Range": "bytes=1000-66535"})),
        _median(lambda: http.get(f"{link}/pages")),
    ]


def _median(send: Callable[[], httpx.Response]) -> float:
    seconds = []
    for _ in range(REQUESTS):
        started = time.monotonic()
        send().raise_for_status()
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
