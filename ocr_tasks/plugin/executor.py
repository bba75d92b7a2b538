"""Does OCRmyPDF's work: in threads of this process, and on other workers where that is worth it.

The owner of a job always works too, so a job never waits for anybody. One bad page does not spoil a
document.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ocrmypdf import Executor

from ocr_tasks import errors, failpoints, settings
from ocr_tasks.model import Stage
from ocr_tasks.plugin import context, helper, reading
from ocr_tasks.plugin.batch import Initializer, Task
from ocr_tasks.plugin.parallel import Help, Work
from ocr_tasks.plugin.progress import STAGES

#: Of these stages the items can be done in another process. (`Deflating JPEGs` works on the open
#: PDF.) All but the reading itself are only spread once they prove to be slow.
_SPREADABLE = {
    "Scanning contents",
    "OCR",
    "Image processing",
    "Recompressing JPEGs",
    "PNGs",
    "JBIG2",
}


class PageExecutor(Executor):
    """OCRmyPDF's executor protocol (`ocrmypdf._concurrent.Executor`) for one job."""

    def __init__(self, job: context.OwnerContext, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._job = job
        self._bar: Any = self.pbar_class
        self._batches = 0
        self._began = time.monotonic()
        self._back = 0.0

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
        is_reading = STAGES.get(name) is Stage.OCR
        if is_reading:
            read = partial(reading.read_page, self._job.pages, task)
            threads, over = self._job.threads, self._job.reading_over.set
            work = Work(
                read,
                reading.crashed,
                worker_initializer,
                arguments,
                threads,
                self._after_page,
                over,
            )
        else:
            work = Work(task, task, worker_initializer, arguments, max_workers)
        spread = name in _SPREADABLE and len(arguments) >= settings.get().spread_pages
        help_ = self._help(at_once=is_reading) if spread else None
        with self._bar(**progress_kwargs) as bar:
            for answer in work.answers(self._job.reporter.tick, help_):
                task_finished(self._noted(answer) if is_reading else answer, bar)

    def _help(self, at_once: bool) -> Help | None:
        call = self._job.call_helpers
        if call is None:
            return None
        self._batches += 1
        batch = helper.batch_name(self._job.run, self._batches)
        return Help(batch, helper.files(self._job.folder, batch), partial(call, batch), at_once)

    def _after_page(self, found: reading.Reading) -> None:
        """Ends the run if it is somebody else's turn.

        Raises:
            context.StepAside
        """
        failpoints.hit("after_page")
        if not found.kept and self._job.turn_is_over(self._back):
            raise context.StepAside

    def _noted(self, found: reading.Reading) -> Any:
        """Takes note of what was found out about a page; gives OCRmyPDF's result for it.

        Raises:
            errors.PageFailed: if the page is bad and the job is to fail then.
        """
        number = found.result.pageno + 1
        self._job.warnings |= dict.fromkeys(found.warnings)
        if found.failure:
            if not self._job.keep_bad_pages:
                raise errors.PageFailed(f"Page {number}: {found.failure.message}", page=number)
            self._job.failures[number] = found.failure
        if found.read:
            self._job.read.add(number)
        if found.result.ocr:
            self._job.page_ready(number)
        if found.kept:
            self._job.reporter.resumed += 1
            self._back = time.monotonic() - self._began
        return found.result
