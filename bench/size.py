"""Time and memory for 10, 100 and 1,000 pages, which should not grow per page.

python -m bench.size [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from bench.report import publish, table
from bench.service import Service, document, repeated, warm
from bench.upload_memory import MIB, web_processes

SIZES = (10, 100, 1000)


class Peaks(threading.Thread):
    """A thread that records the peak resident memory of a single web and worker process."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        assert service.stack.process
        everything = psutil.Process(service.stack.process.pid).children(recursive=True)
        web = web_processes(service.stack)
        workers = [p for p in everything if "worker" in " ".join(p.cmdline())]
        self.of = {"web": 0, "worker": 0}
        self._watched = {"web": web, "worker": workers}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            for kind, processes in self._watched.items():
                for process in processes:
                    try:
                        self.of[kind] = max(self.of[kind], process.memory_info().rss)
                    except psutil.NoSuchProcess:
                        continue

    def stop(self) -> None:
        self._ended.set()
        self.join()


def measure(source: Path, language: str, pages: int, folder: Path) -> list[object]:
    """Returns a row of the table, measured in a new service, so the peaks are of this document."""
    target = repeated(source, folder / f"{pages}.pdf", pages)
    with warm(source, language) as service:
        peaks = Peaks(service)
        peaks.start()
        started = time.monotonic()
        job = service.process(target, languages=language)
        seconds = time.monotonic() - started
        peaks.stop()
    ocr_seconds = job["seconds"]["ocr"]
    row: list[object] = [pages, f"{seconds:.1f}", f"{seconds / pages:.3f}"]
    row.append(f"{(seconds - ocr_seconds) / pages:.3f}")
    print(f"  {row}", flush=True)
    return [*row, *(f"{size / MIB:.0f}" for size in (peaks.of["worker"], peaks.of["web"]))]


def main() -> None:
    source, language = document()
    sizes = [int(size) for size in sys.argv[3:]] or SIZES
    with tempfile.TemporaryDirectory() as name:
        rows = [measure(source, language, pages, Path(name)) for pages in sizes]
    publish(
        "size",
        "Document size",
        f"The pages of {source.name}, repeated; one run. Memory: peak of the largest process.",
        table(
            ["pages", "seconds", "s per page", "without OCR", "worker MiB", "web MiB"],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
