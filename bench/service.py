"""Our service as a competitor: a stack of its own, warm, and a client that waits."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pikepdf

from tests.conftest import DATA, Stack, running_stack

#: The benchmark document, where it is there: 20 scanned pages, 300 dpi, in colour, German.
KANT = Path(__file__).parents[2] / "shared" / "data" / "kant-1784.pdf"
FINAL = ("succeeded", "failed", "cancelled")


def document() -> tuple[Path, str]:
    """The document to work with, and its language: the first argument, or the one at hand."""
    if len(sys.argv) > 1:
        return Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "eng"
    return (KANT, "deu") if KANT.exists() else (DATA / "multipage.pdf", "eng")


def repeated(source: Path, target: Path, pages: int) -> Path:
    """A document of so many pages: those of the source, again and again."""
    with pikepdf.open(source) as pdf, pikepdf.new() as new:
        for number in range(pages):
            new.pages.append(pdf.pages[number % len(pdf.pages)])
        new.save(target)
    return target


@dataclass
class Service:
    """A running stack and a client of it."""

    stack: Stack
    http: httpx.Client

    def submit(self, *files: Path, **options: Any) -> dict[str, Any]:
        """Sends one document."""
        parts = [("file", (file.name, file.read_bytes())) for file in files]
        answer = self.http.post("/v1/jobs", files=parts, data=options)
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        return job

    def wait(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when it has ended, by long polls."""
        while job["state"] not in FINAL:
            job = self.http.get(job["links"]["self"], params={"wait": 30}).json()
        return job

    def show(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job as it is now."""
        shown: dict[str, Any] = self.http.get(job["links"]["self"]).json()
        return shown

    def read(self, *files: Path, **options: Any) -> dict[str, Any]:
        """Sends a document and waits for the end."""
        job = self.wait(self.submit(*files, **options))
        if job["state"] != "succeeded":
            raise RuntimeError(job["error"])
        return job

    def pdf(self, job: dict[str, Any], target: Path) -> Path:
        """The finished PDF."""
        target.write_bytes(self.http.get(f"{job['links']['self']}/pdf").content)
        return target


@contextmanager
def warm(warm_up: Path | None = None, language: str = "eng", **settings: str) -> Iterator[Service]:
    """A service that has read something with each of its processes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), **{"OCR_WEB_PROCESSES": "2"} | settings) as stack,
        httpx.Client(base_url=stack.url, timeout=600) as http,
    ):
        service = Service(stack, http)
        if warm_up:
            service.read(warm_up, languages=language)
        yield service


def timed(call: Any) -> float:
    """Seconds that a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started
