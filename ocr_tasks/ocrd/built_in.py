"""Runs the built-in processor in a worker's process."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import recognition, warm
from ocr_tasks.pipeline import ocrmypdf_errors


def run(
    order: recognition.Order, log: Path, temporary: Path, should_yield: Callable[[], bool]
) -> bool:
    """Processes the pages of an order; the log messages about them are appended to `log`.

    `temporary` is a folder for temporary files. Returns False if pages are left, see
    `recognition.run`.
    """
    with _log_to(log), _temporary_files_in(temporary):
        try:
            with ocrmypdf_errors.as_job_errors():
                return recognition.run(order, should_yield)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:  # must not end the worker
            known = isinstance(error, errors.OcrTasksError)
            text = str(error) if known else warm.one_line(error)
            recognition.log.critical("%s", text, exc_info=not known)
            raise ocrd_errors.ProcessorFailed(text) from error


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _log_to(file: Path) -> Iterator[None]:
    """Appends log messages about pages to a file, and omits them from the worker's log."""
    log = recognition.log
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter(recognition.LOG_FORMAT, recognition.LOG_TIME))
    log.setLevel(settings.get().log_level)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        handler.close()
