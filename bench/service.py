"""OCR Tasks as a competitor: starts a separate service, warms it up, and waits for its jobs."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pikepdf

from tests.conftest import DATA, Stack, running_stack

#: The benchmark document, if available: 20 pages scanned in color at 300 dpi, German.
KANT = Path(__file__).parents[2] / "shared" / "data" / "kant-1784.pdf"
FINAL = ("succeeded", "failed", "cancelled")


def document(arguments: Sequence[str] | None = None) -> tuple[Path, str]:
    """Returns the document and its language, or the default document.

    `arguments` are those of the command line by default.
    """
    chosen = sys.argv[1:] if arguments is None else arguments
    if chosen:
        return Path(chosen[0]), chosen[1] if len(chosen) > 1 else "eng"
    return (KANT, "deu") if KANT.exists() else (DATA / "multipage.pdf", "eng")


def repeated(source: Path, target: Path, pages: int) -> Path:
    """Writes a document with `pages` pages, repeating the pages of the source."""
    with pikepdf.open(source) as pdf, pikepdf.new() as new:
        for number in range(pages):
            new.pages.append(pdf.pages[number % len(pdf.pages)])
        new.save(target)
    return target


@dataclass
class Service:
    """A running service and a client of it."""

    stack: Stack
    http: httpx.Client

    def submit(self, *files: Path, **options: Any) -> dict[str, Any]:
        """Submits a document and returns its job."""
        parts = [("file", (file.name, file.read_bytes())) for file in files]
        response = self.http.post("/v1/jobs", files=parts, data=options)
        response.raise_for_status()
        job: dict[str, Any] = response.json()
        return job

    def wait(self, job: dict[str, Any]) -> dict[str, Any]:
        """Waits with long polls until a job has ended, and returns it."""
        while job["state"] not in FINAL:
            job = self.http.get(job["links"]["self"], params={"wait": 30}).json()
        return job

    def show(self, job: dict[str, Any]) -> dict[str, Any]:
        """Returns the current state of a job."""
        current: dict[str, Any] = self.http.get(job["links"]["self"]).json()
        return current

    def process(self, *files: Path, **options: Any) -> dict[str, Any]:
        """Submits a document, waits until its job has succeeded, and returns the job."""
        job = self.wait(self.submit(*files, **options))
        if job["state"] != "succeeded":
            raise RuntimeError(job["error"])
        return job

    def pdf(self, job: dict[str, Any], target: Path) -> Path:
        """Downloads the PDF of a job."""
        target.write_bytes(self.http.get(f"{job['links']['self']}/pdf").content)
        return target


@contextmanager
def warm(warm_up: Path | None = None, language: str = "eng", **settings: str) -> Iterator[Service]:
    """Starts a service, in which each process has processed pages if `warm_up` is a document."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), **{"OCR_WEB_PROCESSES": "2"} | settings) as stack,
        httpx.Client(base_url=stack.url, timeout=600) as http,
    ):
        service = Service(stack, http)
        if warm_up:
            service.process(warm_up, languages=language)
        yield service


def timed(call: Any) -> float:
    """Returns the seconds that a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started
