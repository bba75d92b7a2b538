"""An OCRmyPDF plugin whose engine misbehaves where the document's title asks for it.

`title="fault: crash 2"` has page 2 raise; the faults are the methods of `Faults`. Documents with
other titles are read as always.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from ocrmypdf import hookimpl

from ocr_tasks import errors
from ocr_tasks.plugin import context
from ocr_tasks.plugin.engine import PageEngine

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


class FaultyEngine(PageEngine):
    """Tesseract, and the fault that was asked for."""

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        page = context.page()
        assert page
        calls.append(page)
        marker, _, rest = (options.title or "").partition(": ")
        fault, _, pages = rest.partition(" ")
        if marker == "fault" and str(page) in (pages.split(",") if pages else [str(page)]):
            getattr(Faults, fault)()
        PageEngine.generate_hocr(input_file, output_hocr, output_text, options)


@hookimpl
def get_ocr_engine(options: Any) -> FaultyEngine:
    return FaultyEngine()
