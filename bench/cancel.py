"""Time from a cancellation until no process of the job is running.

    python -m bench.cancel

Twenty jobs are cancelled during OCR. They use `clean`, which also runs unpaper as a child process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from bench.report import publish, table
from bench.service import document
from tests.chaos.stack import Stack
from tests.conftest import wait_until

ROUNDS = 20


def main() -> None:
    source, language = document()
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        stack = Stack(Path(name), data, workers=1)
        stack.start()
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            for number in range(ROUNDS):
                # Each round cancels at a different point of a page.
                pause = number / ROUNDS
                seconds.append(_cancel(stack, http, source.read_bytes(), language, pause))
                print(f"  {seconds[-1]:.2f} s")
        stack.stop()
    publish(
        "cancel",
        "Cancellation",
        f"{source.name} with `clean`, cancelled during OCR, {ROUNDS} times. Seconds until the last "
        "process of the job has ended and its work folder is deleted.",
        table(
            ["median", "fastest", "slowest"],
            [[f"{f(seconds):.2f}" for f in (statistics.median, min, max)]],
        ),
    )


def _cancel(stack: Stack, http: httpx.Client, content: bytes, language: str, pause: float) -> float:
    files = {"file": ("document.pdf", content)}
    options = {"languages": language, "clean": "true"}
    job = http.post("/v1/jobs", files=files, data=options).json()
    link = job["links"]["self"]
    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)
    time.sleep(pause)
    children = stack.children("worker 0")
    busy = [one for child in children for one in (child, *child.children(recursive=True))]
    started = time.monotonic()
    http.post(f"{link}/cancel").raise_for_status()
    work = stack.data / "jobs" / job["id"][:2] / job["id"] / "work"
    wait_until(lambda: not work.exists() and not any(_is_running(one) for one in busy), 30)
    return time.monotonic() - started


def _is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


if __name__ == "__main__":
    main()
