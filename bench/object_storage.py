"""What a bucket costs: the same document through the folder and through S3, in turn.

    python -m bench.object_storage [document.pdf language]

Two stacks, each with its own Redis, on one machine; the S3 server is `rclone serve s3`, behind the
front of the tests (`tests/bucket.py`), so the network costs nothing and the server a little.
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
#: Requests of each kind in a round, of which the median counts.
TIMES = 30


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
    names = ("a document, from upload to text", "the PDF", "64 KiB of it", "the list of its pages")
    rows = []
    for place, what in enumerate(names):
        folder, s3 = (
            statistics.median(row[place] for row in seconds[kind]) for kind in ("folder", "bucket")
        )
        rows.append([what, f"{folder * 1000:.1f}", f"{s3 * 1000:.1f}", f"{s3 / folder:.2f}"])
    publish(
        "object_storage",
        "A bucket instead of a folder",
        f"{source.name} through the folder and through S3 on the same machine, {ROUNDS} times in "
        f"turn; medians, milliseconds. With all its questions a round is {requests} requests to "
        "the bucket.",
        table(["", "folder", "bucket", "bucket / folder"], rows),
    )


def _measure(http: httpx.Client, source: Path, language: str) -> list[float]:
    """Seconds of a document, of its PDF, of a part of that, and of the list of its pages."""
    began = time.monotonic()
    job = wait_for_end(http, submit(http, source, languages=language).json(), 3600)
    link = job["links"]["self"]
    http.get(f"{link}/text").raise_for_status()
    whole = time.monotonic() - began
    assert job["state"] == "succeeded", job
    return [
        whole,
        _median(lambda: http.get(f"{link}/pdf")),
        _median(lambda: http.get(f"{link}/pdf", headers={"Range": "bytes=1000-66535"})),
        _median(lambda: http.get(f"{link}/pages")),
    ]


def _median(ask: Callable[[], httpx.Response]) -> float:
    seconds = []
    for _ in range(TIMES):
        began = time.monotonic()
        ask().raise_for_status()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
