"""Runs OCRmyPDF's work in threads, and keeps one bad page from spoiling a document."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from ocrmypdf import Executor
from ocrmypdf._pipelines._common import PageResult
from ocrmypdf.exceptions import MissingDependencyError, TesseractConfigError

from ocr_tasks import errors
from ocr_tasks.model import PageFailure, Stage
from ocr_tasks.plugin import context
from ocr_tasks.plugin.progress import STAGES

log = logging.getLogger("ocrmypdf.pages")

#: What is wrong with the worker or the machine rather than with a page.
_NOT_THE_PAGE = (MissingDependencyError, TesseractConfigError, MemoryError, OSError)

#: Seconds after which a progress that was held back is reported although nothing finished.
_TICK = 0.25


class PageExecutor(Executor):
    """OCRmyPDF's executor protocol (`ocrmypdf._concurrent.Executor`) for one job."""

    def __init__(self, job: context.JobContext, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._job = job
        self._bar: Any = self.pbar_class

    def _execute(
        self,
        *,
        use_threads: bool,
        max_workers: int,
        progress_kwargs: dict[str, Any],
        worker_initializer: Callable[[], None],
        task: Callable[..., Any],
        task_arguments: Iterable[Any],
        task_finished: Callable[..., None],
    ) -> None:
        reading = STAGES.get(progress_kwargs.get("desc", "")) is Stage.OCR
        run = self._page_task(task) if reading else task
        with (
            self._bar(**progress_kwargs) as bar,
            ThreadPoolExecutor(max_workers, initializer=worker_initializer) as pool,
        ):
            waiting: set[Future[Any]] = {pool.submit(run, *args) for args in task_arguments}
            try:
                while waiting:
                    done, waiting = wait(waiting, _TICK, FIRST_COMPLETED)
                    for future in done:
                        task_finished(future.result(), bar)
                    self._job.reporter.tick()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _page_task(self, task: Callable[..., PageResult]) -> Callable[..., PageResult]:
        """The task for a page: what an earlier run read, else OCRmyPDF's task, failures caught."""

        def read_page(page_context: Any) -> PageResult:
            number = page_context.pageno + 1
            with context.on_page(number):
                stored = self._job.pages.load(number)
                if stored is not None:
                    self._job.reporter.resumed += 1
                    self._job.read.add(number)
                    return stored
                try:
                    result = task(page_context)
                except _NOT_THE_PAGE:
                    raise
                except Exception as error:  # whatever it is, it is this page's alone
                    return self._failed(number, error)
                if result.ocr is not None:
                    self._job.read.add(number)
                    self._job.pages.save(result)
                elif _brought_text(page_context):
                    self._job.read.add(number)
                return result

        return read_page

    def _failed(self, number: int, error: Exception) -> PageResult:
        """Takes note of a bad page and leaves it as it is.

        Raises:
            errors.PageFailed: if the job is to fail then.
        """
        log.error("page %d could not be read: %s: %s", number, type(error).__name__, error)
        reason = error if isinstance(error, errors.PageError) else errors.PageUnreadable()
        if not self._job.keep_bad_pages:
            raise errors.PageFailed(f"page {number}: {reason.detail}", page=number) from error
        self._job.failures[number] = PageFailure(number, reason.code, reason.detail)
        return PageResult(pageno=number - 1)


def _brought_text(page_context: Any) -> bool:
    """Whether a page that was asked for had text already, so that it counts as read."""
    wanted = page_context.options.pages
    return bool(page_context.pageinfo.has_text and (not wanted or page_context.pageno in wanted))
