"""How much faster one document is read by more processes.

    python -m bench.width [DOCUMENT [LANGUAGE]]

With an engine that sleeps a second for each page, two cores are enough to see the scheduling of 16.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from PIL import Image

from bench.report import publish, table
from bench.service import document, timed, warm

PAGES = 64
WIDTHS = (1, 2, 4, 8, 16)


def sleepy_pages(target: Path) -> Path:
    """Light pages, so that what is measured is not their drawing."""
    page = Image.new("L", (595, 842), "white")
    rest = [page] * (PAGES - 1)
    page.save(target, "PDF", save_all=True, append_images=rest, resolution=72)
    return target


def run(source: Path, width: int, language: str, **settings: str) -> float:
    """Seconds for the document in a service of so many worker processes, one page each."""
    with (
        one_core() if width == 1 else nullcontext(),  # a process alone reads a page on each core
        warm(None, OCR_WORKER_PROCESSES=str(width), **settings) as service,
    ):
        service.read(source, languages=language, title="warm up", pages="1")
        return timed(lambda: service.read(source, languages=language))


@contextmanager
def one_core() -> Iterator[None]:
    """Has this process and those that it starts run on one core for the time of the block."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def parallel_rows(seconds: dict[int, float]) -> list[list[object]]:
    """Rows: processes, seconds, speed-up, and the share that is not parallel (Amdahl's law)."""
    rows: list[list[object]] = []
    for width, taken in seconds.items():
        speed_up = seconds[1] / taken
        serial = (width / speed_up - 1) / (width - 1) if width > 1 else 0
        share = f"{serial:.1%}" if width > 1 else ""
        rows.append([width, f"{taken:.2f}", f"{speed_up:.2f}", share])
    return rows


def main() -> None:
    source, language = document()
    with tempfile.TemporaryDirectory() as name:
        sleepy = sleepy_pages(Path(name) / "sleepy.pdf")
        fake = {
            width: run(sleepy, width, "eng", OCR_PLUGINS="bench.plugins.sleepy") for width in WIDTHS
        }
    real = {width: run(source, width, language) for width in (1, 2)}
    head = ["processes", "seconds", "speed-up", "not parallel"]
    publish(
        "width",
        "One document, more processes",
        f"{PAGES} pages with an engine that sleeps 1 s for each; one run.",
        table(head, parallel_rows(fake)),
        f"{source.name} with Tesseract; one run.",
        table(head, parallel_rows(real)),
    )


if __name__ == "__main__":
    main()
