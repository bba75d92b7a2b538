"""Processing of one page: runs OCRmyPDF's task for it and stores the result.

The owner of a job and its helpers both use `read_page`. Its return value, a `Reading`, is sent to
the owner.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ocrmypdf._pipelines._common import PageResult, set_thread_pageno
from ocrmypdf.exceptions import MissingDependencyError, TesseractConfigError

from ocr_tasks import errors
from ocr_tasks.model import PageFailure
from ocr_tasks.plugin import context, drawing_limit, kept_pages, page_images, scanning
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.redis import counters

log = logging.getLogger("ocrmypdf.pages")

#: Errors of the worker or the machine, not of a page.
NOT_THE_PAGE = (MissingDependencyError, TesseractConfigError, MemoryError, OSError)


@dataclass(frozen=True)
class Reading:
    """The outcome of a page.

    `result` is OCRmyPDF's. `read` means that the page has text, `kept` that the result comes from
    an earlier run. `failure` says why a page has no text. `warnings` are those that a helper
    logged; those of the owner are in its job context.
    """

    result: PageResult
    read: bool = False
    kept: bool = False
    failure: PageFailure | None = None
    warnings: tuple[str, ...] = ()


def read_page(pages: PageStore, task: Callable[..., PageResult], page: Any) -> Reading:
    """Returns the stored outcome of a page, or runs OCRmyPDF's task for it.

    `page` is OCRmyPDF's `PageContext`. Errors of the page are part of the outcome. Raises the
    errors in `NOT_THE_PAGE`, and RunYielded if the run should yield.
    """
    number = page.pageno + 1
    with context.on_page(number):
        stored = pages.load(number)
        if stored is not None:
            return Reading(stored, read=True, kept=True)
        if _must_not_be_drawn(page):
            return _failed(number, errors.PageTimeout())
        # Each attempt has its own folder, because a slow helper may still be working on a page that
        # was leased again. The folder is deleted at once, because page images are large.
        job_folder = page.work_folder
        page.work_folder = job_folder / f"page-{number:06d}-{uuid.uuid4().hex[:8]}"
        page.work_folder.mkdir()
        try:
            with counters.reading_page():
                result = task(page)
            if result.ocr is None:
                _store_own_text(page)
                return Reading(result, read=_had_text(page))
            _check_images(page, result)
            counters.count_page()
            return Reading(pages.save(result), read=True)
        except (*NOT_THE_PAGE, context.RunYielded):
            raise
        except Exception as error:  # any other error fails only this page
            return _failed(number, error)
        finally:
            shutil.rmtree(page.work_folder, ignore_errors=True)
            page.work_folder = job_folder
            set_thread_pageno(None)  # later messages of this thread are not about the page


def _store_own_text(page: Any) -> None:
    """Stores the words of a page that OCRmyPDF has skipped, so that clients see it is done."""
    job = context.current()
    if job:
        source = None if scanning.is_too_slow(page.pageinfo) else page.origin
        kept_pages.store(job, source, page.pageno + 1)


def crashed(page: Any) -> Reading:
    """Returns the outcome of a page that is given up, because the processes working on it died."""
    return _failed(page.pageno + 1, errors.PageCrashed())


def _must_not_be_drawn(page: Any) -> bool:
    """Returns whether drawing a page took too long, or would, because scanning it did."""
    too_slow = scanning.is_too_slow(page.pageinfo) or drawing_limit.was_reached(page.pageno + 1)
    return too_slow and _is_selected(page) and not (page.options.skip_text and _has_text(page))


def _check_images(page: Any, result: PageResult) -> None:
    """Raises errors.PageUnreadable if a page is empty because an image could not be drawn."""
    is_empty = result.text and not result.text.stat().st_size
    if is_empty and page_images.has_damaged(page.origin, page.pageno + 1):
        raise errors.PageUnreadable("An image of the page is damaged")


def _failed(number: int, error: Exception) -> Reading:
    log.error("OCR of page %d failed: %s: %s", number, type(error).__name__, error)
    reason = error if isinstance(error, errors.PageError) else errors.PageUnreadable()
    return Reading(
        PageResult(pageno=number - 1), failure=PageFailure(number, reason.code, reason.detail)
    )


def _had_text(page: Any) -> bool:
    """Returns whether a page was selected and skipped because it already had text."""
    return _has_text(page) and _is_selected(page)


def _has_text(page: Any) -> bool:
    return bool(page.pageinfo.has_text)


def _is_selected(page: Any) -> bool:
    selected = page.options.pages
    return not selected or page.pageno in selected
