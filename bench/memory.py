"""Memory of a worker process: idle, and while it processes an A4 page scanned in color at 300 dpi.

    python -m bench.memory [DOCUMENT [LANGUAGE]]

The page is the first one of the document, scaled to that size. The proportional set size counts
memory that processes share by the number of processes that share it.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import img2pdf
import psutil
import pypdfium2

from bench.report import publish, table
from bench.service import document, warm

MIB = 1024 * 1024
A4_300_DPI = (2480, 3508)
ROUNDS = 5


def a4_scan(source: Path, target: Path) -> Path:
    """Writes a PDF with one page, which is a JPEG."""
    pdf = pypdfium2.PdfDocument(source)
    image = pdf[0].render(scale=300 / 72).to_pil().convert("RGB").resize(A4_300_DPI)
    pdf.close()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, dpi=(300, 300))
    target.write_bytes(img2pdf.convert(buffer.getvalue()))
    return target


def pool(supervisor: int) -> list[psutil.Process]:
    """Returns the worker processes that run OCR."""
    workers = [p for p in psutil.Process(supervisor).children() if p.cmdline()[-1:] == ["worker"]]
    return [child for worker in workers for child in worker.children()]


class Peak(threading.Thread):
    """A thread that records the peak memory of processes, until `going` is false."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        super().__init__(daemon=True)
        self._processes = processes
        self.rss = self.pss = 0
        self.going = True

    def run(self) -> None:
        while self.going:
            for process in self._processes:
                memory = process.memory_full_info()
                self.rss, self.pss = max(self.rss, memory.rss), max(self.pss, memory.pss)
            time.sleep(0.02)


def main() -> None:
    source, language = document()
    with tempfile.TemporaryDirectory() as name, warm() as service:
        assert service.stack.process is not None
        page = a4_scan(source, Path(name) / "a4.pdf")
        processes = pool(service.stack.process.pid)
        fresh = [process.memory_full_info() for process in processes]
        for _ in range(ROUNDS):  # all processes have loaded the model afterwards
            service.process(page, page, page, page, languages=language)
        peak = Peak(processes)
        peak.start()
        for _ in range(ROUNDS):
            service.process(page, languages=language)
        peak.going = False
        peak.join()
        time.sleep(1)
        idle = [process.memory_full_info() for process in processes]
    rows = [
        ["idle, no document yet", *_megabytes(fresh)],
        ["idle, after documents", *_megabytes(idle)],
        ["peak", f"{peak.rss / MIB:.0f} MiB", f"{peak.pss / MIB:.0f} MiB"],
    ]
    publish(
        "memory",
        "Memory of a worker process",
        f"The first page of {source.name} as A4 in color at 300 dpi.",
        table(["", "resident", "proportional"], rows),
    )


def _megabytes(found: list[Any]) -> list[str]:
    """Returns the mean resident and proportional memory."""
    means = (statistics.mean(row.rss for row in found), statistics.mean(row.pss for row in found))
    return [f"{mean / MIB:.0f} MiB" for mean in means]


if __name__ == "__main__":
    main()
