"""An OCRmyPDF plugin whose engine misbehaves as the document's title requests.

`title="fault: crash 2"` makes page 2 raise an exception; the faults are the methods of `Faults`,
and `draw`, which hangs while the page is drawn. The title is that of the job, or else of the PDF
itself. Documents with other titles are processed normally.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import pikepdf
from ocrmypdf import hookimpl
from ocrmypdf.builtin_plugins import pypdfium

from ocr_tasks import errors
from ocr_tasks.plugin import context, tesseract
from tests.plugins import confinement
from tests.plugins.replay import ReplayEngine

#: The page of each call of the engine in this process.
calls: list[int] = []


class Faults:
    """The faults of a page."""

    @staticmethod
    def crash() -> None:
        """Raises an exception in the engine."""
        raise RuntimeError("planted")

    @staticmethod
    def timeout() -> None:
        """Raises the engine's timeout."""
        raise errors.PageTimeout("planted")

    @staticmethod
    def hang() -> None:
        """Runs a program that does not end."""
        subprocess.run(["sleep", "3600"], check=True)

    @staticmethod
    def deaf() -> None:
        """Runs a program that does not end, not even after SIGTERM."""
        ignore = partial(signal.signal, signal.SIGTERM, signal.SIG_IGN)
        subprocess.run(["sleep", "3600"], check=True, preexec_fn=ignore)

    @staticmethod
    def stuck() -> None:
        """Calls a library function that does not return; no exception can interrupt it."""
        ctypes.CDLL(None).sleep(3600)

    @staticmethod
    def overrun() -> None:
        """Makes Tesseract compute without checking its time limit."""

        def compute(api: Any) -> None:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

        try:
            tesseract._call(compute, tesseract.Model(("eng",)), 0.1)
        except tesseract.TimeLimit:
            raise errors.PageTimeout("planted") from None

    @staticmethod
    def segfault() -> None:
        """Reads from an invalid memory address."""
        ctypes.string_at(0)

    @staticmethod
    def abort() -> None:
        """Aborts the process, as C++ does when memory runs out."""
        os.abort()

    @staticmethod
    def hoard() -> None:
        """Allocates memory until there is none left."""
        taken = []
        while True:
            taken.append(bytearray(64 << 20))

    @staticmethod
    def flood() -> None:
        """Writes to a file without end."""
        with tempfile.TemporaryFile() as file:
            file.truncate(1 << 40)

    @staticmethod
    def input_output() -> None:
        """Raises the error of a disk that cannot be read."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    @staticmethod
    def look_around() -> None:
        """Runs code of an attacker, which tries what it may do."""
        job = context.current()
        assert job
        found = confinement.tried(job.folder.path)
        (job.folder.path / "tried.json").write_text(json.dumps(found))

    @staticmethod
    def gate() -> None:
        """Waits until a test opens the gate of the page, or that of all pages of the job.

        See `open_gate` in tests/acceptance/conftest.py.
        """
        job = context.current()
        assert job
        gates = [job.folder.path / name for name in ("open", f"open-{context.page()}")]
        while not any(gate.exists() for gate in gates):
            time.sleep(0.05)

    @staticmethod
    def slow() -> None:
        """Delays the page by a second."""
        time.sleep(1)

    @staticmethod
    def die() -> None:
        """Kills the process that processes the page, unless it is the owner of the job."""
        if context.owner() is None:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)

    @staticmethod
    def poison() -> None:
        """Kills any process that processes the page."""
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def stop() -> None:
        """Suspends a helper, as if its host had failed."""
        if context.owner() is None:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(1)


class FaultyEngine(ReplayEngine):
    """Causes the requested fault, then runs Tesseract or returns its recorded result."""

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        page = context.page()
        assert page
        calls.append(page)
        fault = _asked_for(options, page)
        if fault and fault != "draw":
            getattr(Faults, fault)()
        ReplayEngine.generate_hocr(input_file, output_hocr, output_text, options)


def _asked_for(options: Any, page: int) -> str | None:
    """Returns the fault that the title requests on this page."""
    marker, _, rest = (options.title or _own_title(options.input_file)).partition(": ")
    fault, _, pages = rest.partition(" ")
    wanted = pages.split(",") if pages else [str(page)]
    return fault if marker == "fault" and str(page) in wanted else None


@cache
def _own_title(file: Path) -> str:
    """Returns the title that a PDF already has."""
    with pikepdf.open(file) as pdf:
        return str(pdf.docinfo.get("/Title", ""))


@hookimpl
def rasterize_pdf_page(pageno: int, options: Any) -> None:
    """Hangs like PDFium would: in the library, while holding its lock."""
    if options is not None and _asked_for(options, pageno) == "draw":
        with pypdfium._pdfium_lock:
            Faults.stuck()


@hookimpl
def get_ocr_engine(options: Any) -> FaultyEngine | None:
    job = context.owner()
    return (
        None if job and job.run_context.remote else FaultyEngine()
    )  # pages of devices are not affected
