"""Pages of a job in this process, through OCRmyPDF's executor protocol, with a task made up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ocrmypdf._pipelines._common import PageResult

from ocr_tasks import storage
from ocr_tasks.model import Progress
from ocr_tasks.plugin import context
from ocr_tasks.plugin.executor import PageExecutor
from ocr_tasks.plugin.progress import ProgressBar, Reporter
from tests.conftest import wait_until
from tests.ocr_tasks.test_progress import Clock

pytestmark = pytest.mark.usefixtures("service")


class Run:
    """One run of a job of so many pages, the first `kept` of which an earlier run has read.

    `task(number)` is called for each page that is read now, counted from 1.
    """

    def __init__(self, total: int, kept: int) -> None:
        self.clock = Clock()
        self.sent: list[Progress] = []
        self.finished: list[int] = []
        self.read: list[int] = []
        self.task: Callable[[int], None] = lambda number: None
        self.total = total
        self.job = context.OwnerContext(
            folder=storage.job(storage.new_id()),
            preview_pixels=0,
            run=storage.new_id(),
            reporter=Reporter(self.sent.append, Progress(pages_total=total), 0, self.clock),
            keep_bad_pages=True,
            threads=1,
            call_helpers=None,
        )
        for number in range(1, kept + 1):
            self.job.pages.save(PageResult(pageno=number - 1))

    def go(self) -> None:
        bar = self.bar
        PageExecutor(self.job, pbar_class=bar)(
            use_threads=True,
            max_workers=1,
            progress_kwargs={"desc": "OCR", "total": self.total, "unit": "page"},
            task=self._read,
            task_arguments=[(self._page(number),) for number in range(self.total)],
            task_finished=self._finish,
        )

    def bar(self, **more: Any) -> ProgressBar:
        return ProgressBar(reporter=self.job.reporter, **more)

    def _page(self, number: int) -> Any:
        folder = self.job.folder.path / "work"
        folder.mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(
            pageno=number,
            work_folder=folder,
            options=SimpleNamespace(pages=None),
            pageinfo=SimpleNamespace(has_text=False),
        )

    def _read(self, page: Any) -> PageResult:
        self.read.append(page.pageno + 1)
        self.task(page.pageno + 1)
        text: Path = page.work_folder / "ocr.hocr"
        text.touch()
        return PageResult(pageno=page.pageno, ocr=text)

    def _finish(self, result: PageResult, bar: ProgressBar) -> None:
        bar.update()
        self.finished.append(result.pageno + 1)


def test_a_run_yields_only_after_a_page_that_it_has_read_itself() -> None:
    run = Run(total=9, kept=5)
    run.job.turn_is_over = lambda back: True

    with pytest.raises(context.StepAside):
        run.go()

    assert run.read == [6]


def test_the_way_back_is_the_time_until_the_last_page_that_was_kept() -> None:
    run = Run(total=7, kept=5)
    asked: list[float] = []
    caught_up = threading.Event()

    def turn_is_over(back: float) -> bool:
        asked.append(back)
        return False

    def task(number: int) -> None:
        wait_until(lambda: len(run.finished) >= 5)
        caught_up.set()

    run.job.turn_is_over, run.task = turn_is_over, task
    run.go()

    assert caught_up.is_set()
    assert len(asked) == 2
    assert 0 < asked[0] == asked[1]


def test_pages_of_an_earlier_run_say_nothing_of_the_time_that_a_page_takes() -> None:
    run = Run(total=10, kept=8)

    def task(number: int) -> None:
        wait_until(lambda: len(run.finished) == number - 1)
        run.clock.now += 10

    run.task = task
    run.go()

    etas = {progress.pages_done: progress.eta_seconds for progress in run.sent}
    assert etas[8] is None
    # A page takes ten seconds; after the pages comes a tail, for all ten of them.
    tail = 10 * 10 * 12 / 85
    assert etas[9] == pytest.approx(10 + tail, abs=0.1)
