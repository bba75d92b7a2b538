"""A scrape of /metrics with 100,000 jobs in Redis, against one with 100.

    python -m bench.metrics

Both Redis servers are real, and so are the records: copies of one that has ended. The services are
asked in turns; what is compared is the whole answer, as Prometheus gets it.
"""

from __future__ import annotations

import statistics
import time
import uuid
from contextlib import ExitStack
from typing import Any

import redis

from bench.report import publish, table
from bench.service import Service, warm
from tests.conftest import DATA

SIZES = (100, 100_000)
ROUNDS, SCRAPES = 5, 200
_AT_ONCE = 5000


def fill(service: Service, job_id: str, number: int) -> redis.Redis:
    """Makes so many jobs: copies of one that has ended, in the indexes that such a job is in."""
    client = redis.Redis(unix_socket_path=str(service.stack.data_dir / "redis" / "redis.sock"))
    record: dict[Any, Any] = client.hgetall(f"celery-task-meta-{job_id}")
    indexes = ("ocr:jobs", "ocr:jobs:of:", "ocr:jobs:succeeded", "ocr:jobs:succeeded:of:")
    ended = ("ocr:ended:inputs", "ocr:ended:results", "ocr:ended:jobs")
    for start in range(0, number, _AT_ONCE):
        with client.pipeline(transaction=False) as pipe:
            for place in range(start, min(number, start + _AT_ONCE)):
                copy = str(uuid.uuid4())
                pipe.hset(f"celery-task-meta-{copy}", mapping=record)
                for index in indexes:
                    pipe.zadd(index, {copy: place})
                for index in ended:
                    pipe.zadd(index, {copy: time.time()})
            pipe.execute()
    return client


def scrapes(service: Service) -> float:
    """Milliseconds of the median of some scrapes over one connection."""
    took = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        service.http.get("/metrics").raise_for_status()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def main() -> None:
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    with ExitStack() as stack:
        services = {}
        for size in SIZES:
            services[size] = service = stack.enter_context(warm(OCR_KEEP_JOBS_SECONDS="0"))
            done = service.read(DATA / "huckleberry-finn-p22.pdf")
            client = fill(service, done["id"], size)
            print(f"  {client.zcard('ocr:jobs')} jobs, {client.dbsize()} keys", flush=True)
        for number in range(ROUNDS):
            for size in SIZES if number % 2 else reversed(SIZES):
                found[size].append(scrapes(services[size]))
                print(f"  {size} jobs: {found[size][-1]:.2f} ms", flush=True)
    medians = {size: statistics.median(values) for size, values in found.items()}
    rows = [
        [f"{size:,}", f"{ms:.2f}", f"{ms / medians[SIZES[0]]:.2f}"] for size, ms in medians.items()
    ]
    publish(
        "metrics",
        "A scrape of /metrics",
        f"Medians of {ROUNDS} rounds of {SCRAPES} scrapes each, two services side by side.",
        table(["jobs", "ms", "ratio"], rows),
    )


if __name__ == "__main__":
    main()
