"""Scrapes of /metrics with 100,000 jobs in Redis, compared with 100 jobs.

    python -m bench.metrics

Two services with a Redis each run next to each other and are scraped in turn. The jobs are copies
of a real job that has ended. The time is that of the complete response.
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
_CHUNK = 5000


def fill(service: Service, job_id: str, number: int) -> redis.Redis:
    """Creates `number` copies of a job that has ended, in Redis and in all indexes of such jobs."""
    client = redis.Redis(unix_socket_path=str(service.stack.data_dir / "redis" / "redis.sock"))
    record: dict[Any, Any] = client.hgetall(f"celery-task-meta-{job_id}")
    indexes = ("ocr:jobs", "ocr:jobs:of:", "ocr:jobs:succeeded", "ocr:jobs:succeeded:of:")
    ended = ("ocr:ended:inputs", "ocr:ended:results", "ocr:ended:jobs")
    for start in range(0, number, _CHUNK):
        with client.pipeline(transaction=False) as pipe:
            for place in range(start, min(number, start + _CHUNK)):
                copy = str(uuid.uuid4())
                pipe.hset(f"celery-task-meta-{copy}", mapping=record)
                for index in indexes:
                    pipe.zadd(index, {copy: place})
                for index in ended:
                    pipe.zadd(index, {copy: time.time()})
            pipe.execute()
    return client


def scrapes(service: Service) -> float:
    """Returns the median time of scrapes over one connection, in milliseconds."""
    seconds = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        service.http.get("/metrics").raise_for_status()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def main() -> None:
    results: dict[int, list[float]] = {size: [] for size in SIZES}
    with ExitStack() as stack:
        services = {}
        for size in SIZES:
            services[size] = service = stack.enter_context(warm(OCR_KEEP_JOBS_SECONDS="0"))
            done = service.process(DATA / "huckleberry-finn-p22.pdf")
            client = fill(service, done["id"], size)
            print(f"  {client.zcard('ocr:jobs')} jobs, {client.dbsize()} keys", flush=True)
        for number in range(ROUNDS):
            for size in SIZES if number % 2 else reversed(SIZES):
                results[size].append(scrapes(services[size]))
                print(f"  {size} jobs: {results[size][-1]:.2f} ms", flush=True)
    medians = {size: statistics.median(values) for size, values in results.items()}
    rows = [
        [f"{size:,}", f"{ms:.2f}", f"{ms / medians[SIZES[0]]:.2f}"] for size, ms in medians.items()
    ]
    publish(
        "metrics",
        "Scrapes of /metrics",
        f"Medians of {ROUNDS} rounds of {SCRAPES} scrapes each, of two services side by side.",
        table(["jobs", "ms", "ratio"], rows),
    )


if __name__ == "__main__":
    main()
