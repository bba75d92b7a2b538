"""Pages of a job in this process, through OCRmyPDF's executor protocol, with a simulated task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ocrmypdf._pipelines._common import PageResult

from ocr_tasks import errors, settings
from ocr_tasks.model import Progress
from ocr_tasks.plugin import context, executor, helper
from ocr_tasks.plugin.executor import PageExecutor
from ocr_tasks.plugin.parallel import Help, Work
from ocr_tasks.plugin.progress import ProgressBar, Reporter
from ocr_tasks.storage import layout, store
from tests.conftest import wait_until
from tests.ocr_tasks.plugin.test_progress import Clock

pytestmark = pytest.mark.usefixtures("service")


class Run:
    """A run of a job with `count` pages, of which an earlier run has finished the first `kept`.

    `task(number)` is called with the 1-based number of each page that is processed in this run.
    """

    def __init__(self, total: int, kept: int) -> None:
        self.clock = Clock()
        self.sent: list[Progress] = []
        self.finished: list[int] = []
        self.read: list[int] = []
        self.task: Callable[[int], None] = lambda number: None
        self.total = total
        self.job = context.OwnerContext(
            folder=layout.job(layout.new_id()),
            preview_pixels=0,
            run=layout.new_id(),
            reporter=Reporter(self.sent.append, Progress(pages_total=total), 0, self.clock),
            keep_bad_pages=True,
            threads=1,
            run_context=context.RunContext(self.sent.append),
        )
        self.executor = PageExecutor(self.job, pbar_class=self.bar)
        for number in range(1, kept + 1):
            self.job.pages.save(PageResult(pageno=number - 1))

    def go(self, stage: str = "OCR") -> None:
        scans = stage == "Scanning contents"
        self.executor(
            use_threads=True,
            max_workers=1,
            progress_kwargs={"desc": stage, "total": self.total, "unit": "page"},
            task=self._scan if scans else self._read,
            task_arguments=[
                (number, None, "in.pdf", ()) if scans else (self._page(number),)
                for number in range(self.total)
            ],
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

    def _scan(self, index: int, pdf: None, path: str, check_pages: Any) -> Any:
        box = (0.0, 0.0, 612.0, 792.0)
        return SimpleNamespace(pageno=index, has_text=False, mediabox=box, cropbox=box)

    def _read(self, page: Any) -> PageResult:
        self.read.append(page.pageno + 1)
        self.task(page.pageno + 1)
        text: Path = page.work_folder / "ocr.hocr"
        text.touch()
        return PageResult(pageno=page.pageno, ocr=text)

    def _finish(self, result: PageResult, bar: ProgressBar) -> None:
        bar.update()
        self.finished.append(result.pageno + 1)


def test_a_run_yields_only_after_a_page_that_it_has_processed_itself() -> None:
    run = Run(total=9, kept=5)
    run.job.run_context.should_yield = lambda back: True

    with pytest.raises(context.RunYielded):
        run.go()

    assert run.read == [6]


def test_the_time_to_resume_is_the_time_until_the_last_kept_page() -> None:
    run = Run(total=7, kept=5)
    asked: list[float] = []
    caught_up = threading.Event()

    def should_yield(back: float) -> bool:
        asked.append(back)
        return False

    def task(number: int) -> None:
        wait_until(lambda: len(run.finished) >= 5)
        caught_up.set()

    run.job.run_context.should_yield, run.task = should_yield, task
    run.go()

    assert caught_up.is_set()
    assert len(asked) == 2
    assert 0 < asked[0] == asked[1]


def test_pages_of_an_earlier_run_do_not_count_in_the_time_per_page() -> None:
    run = Run(total=10, kept=8)

    def task(number: int) -> None:
        wait_until(lambda: len(run.finished) == number - 1)
        run.clock.now += 10

    run.task = task
    run.go()

    etas = {progress.pages_done: progress.eta_seconds for progress in run.sent}
    assert etas[8] is None
    # A page takes ten seconds; the time after the pages covers all ten of them.
    tail = 10 * 10 * 12 / 85
    assert etas[9] == pytest.approx(10 + tail, abs=0.1)


def unreadable(number: int) -> Callable[[int], None]:
    """Returns a task that fails with this page."""

    def task(page: int) -> None:
        if page == number:
            raise errors.PageTimeout

    return task


def test_a_failed_page_is_recorded_and_the_others_are_reported() -> None:
    run, ready = Run(total=4, kept=1), []
    run.job.page_ready, run.task = ready.append, unreadable(3)

    run.go()

    assert run.finished == [1, 2, 3, 4]
    assert [(number, row.code) for number, row in run.job.failures.items()] == [(3, "page_timeout")]
    assert run.job.failures[3].page == 3
    assert run.job.succeeded == {1, 2, 4}
    assert ready == [2, 4]
    states = store.page_summaries(run.job.folder.path.name, run.total)
    assert {number: row["failed"] for number, row in states.items()} == {
        1: False,
        2: False,
        3: True,
        4: False,
    }


def test_a_failed_page_ends_a_job_that_requires_all_pages() -> None:
    run = Run(total=3, kept=0)
    run.job.keep_bad_pages, run.task = False, unreadable(2)

    with pytest.raises(errors.PageFailed, match=r"Page 2: .") as failed:
        run.go()

    assert failed.value.page == 2
    assert run.job.failures == {}


class Helped(Work):
    """Parallel work that records the help it is offered, and works alone."""

    offers: ClassVar[list[Help | None]] = []

    def results(self, tick: Callable[[], None], help_: Help | None) -> Iterator[Any]:
        self.offers.append(help_)
        return super().results(tick, None)


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> list[Help | None]:
    """Returns the help that stages request from other workers, in their order."""
    monkeypatch.setattr(executor, "Work", Helped)
    monkeypatch.setattr(Helped, "offers", [])
    return Helped.offers


def test_each_stage_that_others_can_help_with_is_a_batch(
    offers: list[Help | None],
) -> None:
    run, called = Run(total=2, kept=0), []
    run.job.run_context.call_helpers = lambda batch, count: called.append((batch, count))

    for stage in ("Scanning contents", "OCR", "Deflating JPEGs"):
        run.go(stage)

    scanning, reading, deflating = offers
    assert scanning is not None
    assert reading is not None
    assert deflating is None
    assert (scanning.at_once, reading.at_once) == (False, True)
    assert reading.batch.startswith(f"{run.job.run}:")
    assert scanning.batch != reading.batch
    assert reading.files == helper.files(run.job.folder, reading.batch)
    reading.call(7)
    assert called == [(reading.batch, 7)]


def test_no_help_is_requested_for_too_little_work(
    offers: list[Help | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_SPREAD_PAGES", "3")
    settings.clear()
    for total in (2, 3):
        run = Run(total, kept=0)
        run.job.run_context.call_helpers = lambda batch, count: None
        run.go()

    assert [offer is not None for offer in offers] == [False, True]
