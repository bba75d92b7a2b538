"""OCRmyPDF's executor: runs tasks in threads of this process and, if worthwhile, on other workers.

The owner of a job processes items as well, so a job never waits for helpers. A page that fails does
not make the document fail, unless the job's options say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ocrmypdf import Executor

from ocr_tasks import errors, failpoints, settings
from ocr_tasks.model import Stage
from ocr_tasks.plugin import context, helper, reading, scanning
from ocr_tasks.plugin.batch import Initializer, Task
from ocr_tasks.plugin.parallel import Help, Work
from ocr_tasks.plugin.progress import STAGES

#: Stages whose items can be processed by helpers. (`Deflating JPEGs` works on the open PDF.)
#: Helpers are called for OCR at once, for the other stages only if they prove slow.
_SPREADABLE = {
    "Scanning contents",
    "OCR",
    "Image processing",
    "Recompressing JPEGs",
    "PNGs",
    "JBIG2",
}


class PageExecutor(Executor):
    """The executor of one job; implements `ocrmypdf._concurrent.Executor`."""

    def __init__(self, job: context.OwnerContext, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._job = job
        self._bar: Any = self.pbar_class
        self._started = time.monotonic()
        self._resume_seconds = 0.0

    def _execute(
        self,
        *,
        use_threads: bool,
        max_workers: int,
        progress_kwargs: dict[str, Any],
        worker_initializer: Initializer,
        task: Task,
        task_arguments: Iterable[Any],
        task_finished: Callable[..., None],
    ) -> None:
        name = progress_kwargs.get("desc", "")
        arguments = list(task_arguments)
        is_ocr, is_scan = (STAGES.get(name) is stage for stage in (Stage.OCR, Stage.SCANNING))
        if is_ocr:
            process_page = partial(reading.read_page, self._job.pages, task)
            threads, at_end = self._job.threads, self._job.ocr_finished.set
            work = Work(
                process_page,
                reading.crashed,
                worker_initializer,
                arguments,
                threads,
                self._after_page,
                at_end,
            )
        else:
            if is_scan:
                task = partial(scanning.scan_page, task, self._job.process_scans)
            work = Work(task, task, worker_initializer, arguments, max_workers)
        spread = name in _SPREADABLE and len(arguments) >= settings.get().spread_pages
        help_ = self._help(at_once=is_ocr) if spread else None
        with self._bar(**progress_kwargs) as bar:
            for result in work.results(self._job.reporter.tick, help_):
                if is_scan and scanning.is_too_slow(result):
                    self._job.too_slow.add(result.pageno + 1)
                task_finished(self._record(result) if is_ocr else result, bar)

    def _help(self, at_once: bool) -> Help | None:
        call = self._job.run_context.call_helpers
        if call is None:
            return None
        self._job.batches += 1
        batch = helper.batch_name(self._job.run, self._job.batches)
        return Help(batch, helper.files(self._job.folder, batch), partial(call, batch), at_once)

    def _after_page(self, page: reading.Reading) -> None:
        """Ends the run with RunYielded if it should yield to another document."""
        failpoints.hit("after_page")
        if not page.kept and self._job.run_context.should_yield(self._resume_seconds):
            raise context.RunYielded

    def _record(self, page: reading.Reading) -> Any:
        """Records the outcome of a page in the job, and returns OCRmyPDF's result for it.

        Raises errors.PageFailed if the page failed and the job's options do not allow that.
        """
        number = page.result.pageno + 1
        self._job.warnings |= dict.fromkeys(page.warnings)
        if page.failure:
            if not self._job.keep_bad_pages:
                raise errors.PageFailed(f"Page {number}: {page.failure.message}", page=number)
            self._job.failures[number] = page.failure
            self._job.pages.mark_failed(number)
        if page.read:
            self._job.succeeded.add(number)
        if page.result.ocr:
            self._job.page_ready(number)
        else:  # another attempt may run OCR on it, so it does not count as ready for the artifacts
            self._job.run_context.page_stored(number)
        if page.kept:
            self._job.reporter.resumed += 1
            self._resume_seconds = time.monotonic() - self._started
        return page.result
