"""Fair scheduling: a one-page document submitted after a large one, and two large documents.

python -m bench.fairness [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.report import publish, table
from bench.service import Service, document, repeated, warm
from bench.throughput import CORES

LARGE = 500
ROUNDS = 5


def pages_done(service: Service, job: dict[str, Any]) -> int:
    done: int = service.show(job)["progress"]["pages_done"]
    return done


def wait_for_pages(service: Service, job: dict[str, Any], pages: int) -> None:
    while pages_done(service, job) < pages:
        time.sleep(0.1)


def waited(job: dict[str, Any]) -> float:
    """Returns the seconds from submission to start."""
    started, created = (datetime.fromisoformat(job[name]) for name in ("started_at", "created_at"))
    return (started - created).total_seconds()


def behind_a_large_one(source: Path, folder: Path, language: str) -> list[list[object]]:
    """Returns rows with the waiting time of a one-page document, for each priority."""
    large, small = repeated(source, folder / "l.pdf", LARGE), repeated(source, folder / "s.pdf", 1)
    rows: list[list[object]] = []
    with warm(source, language) as service:
        job = service.submit(large, languages=language)
        wait_for_pages(service, job, 4 * CORES)
        started, before = time.monotonic(), pages_done(service, job)
        waits: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for priority in ("interactive", "normal", "bulk"):
                done = service.process(small, languages=language, priority=priority)
                waits.setdefault(priority, []).append(waited(done))
        small_pages = ROUNDS * len(waits)
        processed = pages_done(service, job) - before + small_pages
        page_time = (time.monotonic() - started) * CORES / processed
        service.http.delete(job["links"]["self"])
    for priority, seconds in waits.items():
        median, longest = statistics.median(seconds), max(seconds)
        page_times = f"{median / page_time:.2f}", f"{longest / page_time:.2f}"
        rows.append([priority, f"{median:.2f}", *page_times, f"{page_time:.2f}"])
    return rows


def two_large_ones(source: Path, folder: Path, language: str) -> list[list[object]]:
    """Returns rows with the pages that two large documents finish in the same 30 seconds."""
    large = repeated(source, folder / "large.pdf", LARGE)
    with warm(source, language) as service:
        jobs = [service.submit(large, languages=language) for _ in range(2)]
        for job in jobs:
            wait_for_pages(service, job, 2)
        before = [pages_done(service, job) for job in jobs]
        time.sleep(30)
        after = [pages_done(service, job) for job in jobs]
        for job in jobs:
            service.http.delete(job["links"]["self"])
    return [[f"document {n + 1}", after[n] - before[n]] for n in range(2)]


def main() -> None:
    source, language = document()
    with tempfile.TemporaryDirectory() as name:
        waits = behind_a_large_one(source, Path(name), language)
        shares = two_large_ones(source, Path(name), language)
    publish(
        "fairness",
        "Fair scheduling",
        f"Time from submission to start of a one-page document, while {CORES} processes work on a "
        f"document of {LARGE} pages; {ROUNDS} times per priority. A page time is the time of one "
        "page.",
        table(
            ["priority", "median s", "median page times", "maximum page times", "page time s"],
            waits,
        ),
        f"Finished pages of two documents of {LARGE} pages each in the same 30 seconds:",
        table(["", "pages"], shares),
    )


if __name__ == "__main__":
    main()
