"""Status polls of 50 clients with 10,000 jobs, compared with FastAPI and a dictionary.

    python -m bench.http        (needs `wrk`: apt-get install wrk)

The competitor works like the OCR-with-progress demo: one uvicorn process with a route that returns
an entry of a dictionary. Both return the same JSON.
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
    """Returns requests per second, and the 50th and 99th percentile in milliseconds."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output:
        raise RuntimeError(output)

    def milliseconds(percentile: str) -> float:
        match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", output)
        assert match
        return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate
    return float(rate[1]), milliseconds("50"), milliseconds("99")


def fill(service: Service, job_id: str) -> None:
    """Creates 10,000 jobs in Redis, which are copies of one that has ended."""
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
        done = service.process(DATA / "huckleberry-finn-p22.pdf")
        fill(service, done["id"])
        own_url = service.stack.url + done["links"]["self"]
        stored, port = Path(name) / "jobs.json", free_port()
        stored.write_text(json.dumps({done["id"]: service.show(done)}))
        other_url = f"http://127.0.0.1:{port}/v1/jobs/{done['id']}"
        server = subprocess.Popen([sys.executable, "-c", COMPARISON, stored, str(port)])
        try:
            wait_until(lambda: responds(other_url))
            results: dict[str, list[tuple[float, float, float]]] = {}
            for _ in range(ROUNDS):
                for label, url in (("OCR Tasks", own_url), ("FastAPI, dictionary", other_url)):
                    results.setdefault(label, []).append(wrk(url))
                    print(f"  {label}: {results[label][-1]}", flush=True)
                    time.sleep(1)
        finally:
            server.terminate()
            server.wait()
    rows = [
        [label, *(f"{statistics.median(column):.0f}" for column in zip(*runs, strict=True))]
        for label, runs in results.items()
    ]
    publish(
        "http",
        "Status polls",
        f"{CLIENTS} clients, {JOBS:,} jobs in Redis, {SECONDS} s; medians of {ROUNDS} rounds. The "
        "clients run on the same cores as the server.",
        table(["", "polls per second", "p50 ms", "p99 ms"], rows),
    )


def responds(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
