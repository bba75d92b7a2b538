"""Speedup of one document with more worker processes.

    python -m bench.width [DOCUMENT [LANGUAGE]]

An OCR engine that sleeps for a second per page shows the scheduling of 16 processes on two cores.
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
    """Writes a document of small blank pages, which take little time to rasterize."""
    page = Image.new("L", (595, 842), "white")
    rest = [page] * (PAGES - 1)
    page.save(target, "PDF", save_all=True, append_images=rest, resolution=72)
    return target


def run(source: Path, width: int, language: str, **settings: str) -> float:
    """Returns the seconds of the document with `width` worker processes that run one page each."""
    with (
        one_core() if width == 1 else nullcontext(),  # a single process would use all cores
        warm(None, OCR_WORKER_PROCESSES=str(width), **settings) as service,
    ):
        service.process(source, languages=language, title="warm up", pages="1")
        return timed(lambda: service.process(source, languages=language))


@contextmanager
def one_core() -> Iterator[None]:
    """Restricts this process and its new child processes to one core inside the `with` block."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def parallel_rows(seconds: dict[int, float]) -> list[list[object]]:
    """Returns rows: processes, seconds, speedup, and the serial share according to Amdahl's law."""
    rows: list[list[object]] = []
    for width, duration in seconds.items():
        speedup = seconds[1] / duration
        serial = (width / speedup - 1) / (width - 1) if width > 1 else 0
        share = f"{serial:.1%}" if width > 1 else ""
        rows.append([width, f"{duration:.2f}", f"{speedup:.2f}", share])
    return rows


def main() -> None:
    source, language = document()
    with tempfile.TemporaryDirectory() as name:
        sleepy = sleepy_pages(Path(name) / "sleepy.pdf")
        fake = {
            width: run(sleepy, width, "eng", OCR_PLUGINS="bench.plugins.sleepy") for width in WIDTHS
        }
    real = {width: run(source, width, language) for width in (1, 2)}
    head = ["processes", "seconds", "speedup", "serial share"]
    publish(
        "width",
        "Speedup with more processes",
        f"A document of {PAGES} pages with an OCR engine that sleeps for 1 s per page; one run.",
        table(head, parallel_rows(fake)),
        f"{source.name} with Tesseract; one run.",
        table(head, parallel_rows(real)),
    )


if __name__ == "__main__":
    main()
