"""Limits the time that PDFium may take for a page.

PDFium is a library in C, and a call of it cannot be interrupted: the process has to end. Before
that the page is marked in the folder of the job, and the job is put back into the queue. The next
run leaves the page alone, and processes the others.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ocr_tasks import errors, settings
from ocr_tasks.plugin import context, time_limit

log = logging.getLogger("ocrmypdf.pages")

#: Number of marked pages with which a job fails, so that it ends in finite time.
_MOST_PAGES = 10


def check(job: context.JobContext) -> None:
    """Raises errors.PagesTooSlow if too many pages of a job are marked."""
    seconds = settings.get().page_seconds
    number = job.pages.count_too_slow(seconds)
    if number >= _MOST_PAGES:
        raise errors.PagesTooSlow(f"Drawing took more than {seconds:g} s for {number} pages")


def was_reached(number: int) -> bool:
    """Returns whether a page is marked. `number` is 1-based."""
    job = context.current()
    return bool(job and job.pages.is_too_slow(number, settings.get().page_seconds))


@contextmanager
def limited(number: int) -> Iterator[None]:
    """Ends this process if the block takes longer than OCR_PAGE_SECONDS, but only within a job.

    `number` is the 1-based number of the page that the block needs PDFium for. The lock of PDFium
    must be held, so that the time of another page does not count.
    """
    job = context.current()
    if job is None:
        yield
        return
    with time_limit.watched(settings.get().page_seconds, lambda: _end_process(job, number)):
        yield


def _end_process(job: context.JobContext, number: int) -> None:
    seconds = settings.get().page_seconds
    log.error("page %d: drawing took more than %g s; this process ends", number, seconds)
    try:
        job.pages.mark_too_slow(number, seconds)
        job.hand_back(number)
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
