"""Reads one page: OCRmyPDF's task for it, and what becomes of it.

The owner of a job and its helpers read pages in the same way; what is found out goes back to the
owner as a `Reading`.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ocrmypdf._pipelines._common import PageResult
from ocrmypdf.exceptions import MissingDependencyError, TesseractConfigError

from ocr_tasks import errors
from ocr_tasks.model import PageFailure
from ocr_tasks.plugin import context
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.redis import counters

log = logging.getLogger("ocrmypdf.pages")

#: What is wrong with the worker or the machine rather than with a page.
NOT_THE_PAGE = (MissingDependencyError, TesseractConfigError, MemoryError, OSError)


@dataclass(frozen=True)
class Reading:
    """What came of a page: OCRmyPDF's result for it, and why it has no text if it should have.

    `read`: its text is there. `kept`: an earlier run had read it. `warnings`: what a helper saw in
    the log.
    """

    result: PageResult
    read: bool = False
    kept: bool = False
    failure: PageFailure | None = None
    warnings: tuple[str, ...] = ()


def read_page(pages: PageStore, task: Callable[..., PageResult], page: Any) -> Reading:
    """The page as an earlier run read it, else OCRmyPDF's task for the `PageContext` given.

    Whatever goes wrong with the page is told in the answer.

    Raises:
        MissingDependencyError, TesseractConfigError, MemoryError, OSError: what is not its fault.
        StepAside: if the run is to make place.
    """
    number = page.pageno + 1
    with context.on_page(number):
        stored = pages.load(number)
        if stored is not None:
            return Reading(stored, read=True, kept=True)
        # A folder of its own, since a page may be begun again while its first reader is still at
        # it; it goes at once, as page images are large.
        whole = page.work_folder
        page.work_folder = whole / f"page-{number:06d}-{uuid.uuid4().hex[:8]}"
        page.work_folder.mkdir()
        try:
            with counters.reading_page():
                result = task(page)
            if result.ocr is None:
                return Reading(result, read=_brought_text(page))
            counters.count_page()
            return Reading(pages.save(result), read=True)
        except (*NOT_THE_PAGE, context.StepAside):
            raise
        except Exception as error:  # whatever it is, it is this page's alone
            return _failed(number, error)
        finally:
            shutil.rmtree(page.work_folder, ignore_errors=True)
            page.work_folder = whole


def crashed(page: Any) -> Reading:
    """A page that is left alone, since the processes that read it died."""
    return _failed(page.pageno + 1, errors.PageCrashed())


def _failed(number: int, error: Exception) -> Reading:
    log.error("page %d could not be read: %s: %s", number, type(error).__name__, error)
    reason = error if isinstance(error, errors.PageError) else errors.PageUnreadable()
    return Reading(
        PageResult(pageno=number - 1), failure=PageFailure(number, reason.code, reason.detail)
    )


def _brought_text(page: Any) -> bool:
    """Whether a page that was asked for had text already, so that it counts as read."""
    wanted = page.options.pages
    return bool(page.pageinfo.has_text and (not wanted or page.pageno in wanted))
