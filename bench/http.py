"""Status polls: 50 clients, 10,000 jobs, against FastAPI with a dictionary.

    python -m bench.http        (needs `wrk`: apt-get install wrk)

The comparison is what the OCR-with-progress demo does: one uvicorn, a route that returns an entry
of a dictionary. Both answer with the same JSON.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import redis

from bench.report import publish, table
from bench.service import Service, warm
from tests.conftest import DATA, free_port, wait_until

CLIENTS, JOBS, SECONDS, ROUNDS = 50, 10_000, 8, 3

COMPARISON = """
import json, sys
from fastapi import FastAPI

app = FastAPI()
jobs = json.load(open(sys.argv[1]))

@app.get("/v1/jobs/{job_id}")
def show(job_id: str):
    return jobs[job_id]

import uvicorn
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


def wrk(url: str) -> tuple[float, float, float]:
    """Requests a second, and milliseconds of the median and of the 99th percentile."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        raise RuntimeError(said)

    def milliseconds(share: str) -> float:
        found = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", said)
        assert found
        return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate
    return float(rate[1]), milliseconds("50"), milliseconds("99")


def fill(service: Service, job_id: str) -> None:
    """Makes 10,000 jobs in Redis: copies of one that has ended."""
    client = redis.Redis(unix_socket_path=str(service.stack.data_dir / "redis" / "redis.sock"))
    record: dict[Any, Any] = client.hgetall(f"celery-task-meta-{job_id}")
    with client.pipeline(transaction=False) as pipe:
        for number in range(JOBS):
            copy = str(uuid.uuid4())
            pipe.hset(f"celery-task-meta-{copy}", mapping=record)
            pipe.zadd("ocr:jobs", {copy: number})
            pipe.zadd("ocr:jobs:succeeded", {copy: number})
        pipe.execute()


def main() -> None:
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, warm() as service:
        done = service.read(DATA / "huckleberry-finn-p22.pdf")
        fill(service, done["id"])
        ours = service.stack.url + done["links"]["self"]
        stored, port = Path(name) / "jobs.json", free_port()
        stored.write_text(json.dumps({done["id"]: service.show(done)}))
        theirs = f"http://127.0.0.1:{port}/v1/jobs/{done['id']}"
        server = subprocess.Popen([sys.executable, "-c", COMPARISON, stored, str(port)])
        try:
            wait_until(lambda: answers(theirs))
            found: dict[str, list[tuple[float, float, float]]] = {}
            for _ in range(ROUNDS):
                for who, url in (("our service", ours), ("FastAPI and a dictionary", theirs)):
                    found.setdefault(who, []).append(wrk(url))
                    print(f"  {who}: {found[who][-1]}", flush=True)
                    time.sleep(1)
        finally:
            server.terminate()
            server.wait()
    rows = [
        [who, *(f"{statistics.median(column):.0f}" for column in zip(*runs, strict=True))]
        for who, runs in found.items()
    ]
    publish(
        "http",
        "Status polls",
        f"{CLIENTS} clients, {JOBS} jobs in Redis, {SECONDS} s; medians of {ROUNDS} rounds. The "
        "clients run on the same cores.",
        table(["", "polls a second", "p50 ms", "p99 ms"], rows),
    )


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
