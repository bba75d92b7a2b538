"""Memory of the web process before, during and after a large upload.

    python -m bench.upload_memory [MEGABYTES]

Starts a service with one web process, and uploads a PDF of that size (500 by default).
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pikepdf
import psutil

from bench.report import publish, table
from tests.conftest import DATA, Stack, running_stack

MIB = 1024 * 1024


def large_pdf(path: Path, megabytes: int) -> Path:
    """Writes a scan with an attachment of random bytes, which cannot be compressed."""
    with pikepdf.open(DATA / "huckleberry-finn-p22.pdf") as pdf:
        pdf.Root["/Ballast"] = pdf.make_stream(os.urandom(megabytes * MIB))
        pdf.save(path, compress_streams=False)
    return path


def web_processes(stack: Stack) -> list[psutil.Process]:
    """Returns gunicorn's worker processes."""
    assert stack.process is not None
    everything = psutil.Process(stack.process.pid).children(recursive=True)
    ours = [p for p in everything if _is_web(p)]
    return [p for p in ours if p.ppid() in {other.pid for other in ours}]


def _is_web(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-1:] == ["web"]
    except psutil.Error:  # the process has ended
        return False


class Peak(threading.Thread):
    """A thread that records the peak resident memory of a process, until `going` is false."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.bytes = 0
        self.going = True

    def run(self) -> None:
        while self.going:
            self.bytes = max(self.bytes, self.process.memory_info().rss)
            time.sleep(0.02)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        document = large_pdf(folder / "large.pdf", megabytes)
        with running_stack(folder, OCR_WEB_PROCESSES="1") as stack, stack.client() as http:
            http.get("/v1/jobs")
            (process,) = web_processes(stack)
            before = process.memory_info().rss
            peak = Peak(process)
            peak.start()
            started = time.monotonic()
            with document.open("rb") as file:
                response = http.post("/v1/jobs", files={"file": file}, timeout=httpx.Timeout(600))
            seconds = time.monotonic() - started
            peak.going = False
            after = process.memory_info().rss
            response.raise_for_status()
            http.delete(response.json()["links"]["self"])
    sizes = [f"{size / MIB:.1f} MiB" for size in (before, peak.bytes, after, peak.bytes - before)]
    head = ["upload", "seconds until 202", "before", "peak", "after", "growth"]
    publish(
        "upload_memory",
        "Memory during a large upload",
        "Resident memory of the web process during the upload of a PDF.",
        table(head, [[f"{megabytes} MiB", f"{seconds:.1f}", *sizes]]),
    )


if __name__ == "__main__":
    main()
