"""An OCRmyPDF plugin whose engine misbehaves where the document's title asks for it.

`title="fault: crash 2"` has page 2 raise; the faults are the methods of `Faults`, and `draw`, which
hangs in the drawing of the page. The title is that of the job, or else of the PDF itself. Documents
with other titles are read as always.
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
    """What may go wrong on a page."""

    @staticmethod
    def crash() -> None:
        """The engine fails."""
        raise RuntimeError("planted")

    @staticmethod
    def timeout() -> None:
        """The engine takes too long."""
        raise errors.PageTimeout("planted")

    @staticmethod
    def hang() -> None:
        """A program that the engine runs does not end."""
        subprocess.run(["sleep", "3600"], check=True)

    @staticmethod
    def deaf() -> None:
        """A program that the engine runs does not end, not even when it is asked to."""
        ignore = partial(signal.signal, signal.SIGTERM, signal.SIG_IGN)
        subprocess.run(["sleep", "3600"], check=True, preexec_fn=ignore)

    @staticmethod
    def stuck() -> None:
        """A library does not come back; no exception reaches it."""
        ctypes.CDLL(None).sleep(3600)

    @staticmethod
    def overrun() -> None:
        """Tesseract computes on and on without looking at the clock."""

        def compute(api: Any) -> None:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

        try:
            tesseract._call(compute, tesseract.Model(("eng",)), 0.1)
        except tesseract.TimeLimit:
            raise errors.PageTimeout("planted") from None

    @staticmethod
    def segfault() -> None:
        """A library reads where nothing is."""
        ctypes.string_at(0)

    @staticmethod
    def abort() -> None:
        """A library gives up, as C++ does when memory runs out."""
        os.abort()

    @staticmethod
    def hoard() -> None:
        """Memory is taken until there is no more."""
        taken = []
        while True:
            taken.append(bytearray(64 << 20))

    @staticmethod
    def flood() -> None:
        """A file grows and grows."""
        with tempfile.TemporaryFile() as file:
            file.truncate(1 << 40)

    @staticmethod
    def input_output() -> None:
        """The disk does not give back what was written."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    @staticmethod
    def look_around() -> None:
        """Code of an attacker runs, and tries what it may do."""
        job = context.current()
        assert job
        found = confinement.tried(job.folder.path)
        (job.folder.path / "tried.json").write_text(json.dumps(found))

    @staticmethod
    def gate() -> None:
        """The page waits until a test opens its gate, or that of all pages of the job.

        See `open_gate` in tests/acceptance/conftest.py.
        """
        job = context.current()
        assert job
        gates = [job.folder.path / name for name in ("open", f"open-{context.page()}")]
        while not any(gate.exists() for gate in gates):
            time.sleep(0.05)

    @staticmethod
    def slow() -> None:
        """The page takes a second longer."""
        time.sleep(1)

    @staticmethod
    def die() -> None:
        """The page kills the process that reads it, unless that is the owner of the job."""
        if context.owner() is None:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1)

    @staticmethod
    def poison() -> None:
        """The page kills whatever process reads it."""
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def stop() -> None:
        """The page makes a helper stand still, as if its host were gone."""
        if context.owner() is None:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(1)


class FaultyEngine(ReplayEngine):
    """The fault that was asked for, then what Tesseract reads or once read."""

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
    """The fault that the title asks for on this page."""
    marker, _, rest = (options.title or _own_title(options.input_file)).partition(": ")
    fault, _, pages = rest.partition(" ")
    wanted = pages.split(",") if pages else [str(page)]
    return fault if marker == "fault" and str(page) in wanted else None


@cache
def _own_title(file: Path) -> str:
    """The title that a PDF has already."""
    with pikepdf.open(file) as pdf:
        return str(pdf.docinfo.get("/Title", ""))


@hookimpl
def rasterize_pdf_page(pageno: int, options: Any) -> None:
    """Hangs as PDFium would: in the library, with its lock held."""
    if options is not None and _asked_for(options, pageno) == "draw":
        with pypdfium._pdfium_lock:
            Faults.stuck()


@hookimpl
def get_ocr_engine(options: Any) -> FaultyEngine | None:
    job = context.owner()
    return None if job and job.devices else FaultyEngine()  # what devices read is theirs
