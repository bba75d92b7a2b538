"""Time until another worker takes over a job after a crash.

    python -m bench.takeover

All processes of the worker that owns the job are killed, twenty times. There are two workers, with
the default lease.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.report import publish, table
from bench.service import document
from tests.chaos.stack import Stack, kill
from tests.conftest import wait_until

ROUNDS = 20


def main() -> None:
    source, language = document()
    seconds = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        stack = Stack(Path(name), data, processes=1, lease_seconds=20)
        stack.start()
        with httpx.Client(base_url=stack.url, timeout=60) as http:
            for _ in range(ROUNDS):
                seconds.append(_take_over(stack, http, source.read_bytes(), language))
                print(f"  {seconds[-1]:.1f} s")
        stack.stop()
    publish(
        "takeover",
        "Takeover after a crash",
        f"All processes of the worker that owns the job ({source.name}) are killed, {ROUNDS} "
        "times. Seconds until the job runs on another worker, with the default lease of 20 s.",
        table(
            ["median", "fastest", "slowest"],
            [[f"{f(seconds):.1f}" for f in (statistics.median, min, max)]],
        ),
    )


def _take_over(stack: Stack, http: httpx.Client, content: bytes, language: str) -> float:
    files = {"file": ("document.pdf", content)}
    job = http.post("/v1/jobs", files=files, data={"languages": language}).json()
    link = job["links"]["self"]
    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)
    holder = str(stack.redis().hget(f"celery-task-meta-{job['id']}", "holder")).split(":")
    name = next(n for n in stack.worker_names() if stack.servers[n].process.pid == int(holder[1]))
    for process in [stack.servers[name].process, *stack.children(name)]:
        kill(process)
    killed = time.monotonic()
    wait_until(
        lambda: (now := http.get(link).json())["attempt"] == 2 and now["state"] == "running", 60
    )
    seconds = time.monotonic() - killed
    http.post(f"{link}/cancel").raise_for_status()
    wait_until(stack.ready)
    return seconds


if __name__ == "__main__":
    main()
