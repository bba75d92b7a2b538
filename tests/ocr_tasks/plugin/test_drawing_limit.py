"""Ends the process that draws for too long, and fails a job with too many such pages."""

from __future__ import annotations

import multiprocessing
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from ocr_tasks import errors, settings
from ocr_tasks.model import Progress
from ocr_tasks.plugin import context, drawing_limit
from ocr_tasks.plugin.context import OwnerContext, RunContext
from ocr_tasks.plugin.progress import Reporter
from ocr_tasks.storage import layout

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnerContext:
    monkeypatch.setenv("OCR_PAGE_SECONDS", "0.1")
    settings.clear()
    return OwnerContext(
        folder=layout.job(layout.new_id()),
        preview_pixels=0,
        run="",
        reporter=Reporter(lambda progress: None, Progress(), 1),
        keep_bad_pages=True,
        threads=1,
        run_context=RunContext(
            lambda progress: None, hand_back=lambda number: (tmp_path / f"back-{number}").touch()
        ),
    )


def draw_for_hours(job: OwnerContext) -> None:
    with context.job(job), drawing_limit.limited(7):
        time.sleep(3600)


def test_the_process_ends_after_marking_the_page(job: OwnerContext, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=partial(draw_for_hours, job))
    process.start()
    process.join(60)

    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "back-7").exists()
    with context.job(job):
        assert [number for number in range(1, 9) if drawing_limit.was_reached(number)] == [7]


def test_a_mark_does_not_count_with_a_higher_limit(
    job: OwnerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.pages.mark_too_slow(7, 0.1)
    monkeypatch.setenv("OCR_PAGE_SECONDS", "0.2")
    settings.clear()

    with context.job(job):
        assert not drawing_limit.was_reached(7)


def test_a_job_with_such_pages_runs_with_a_higher_limit(
    job: OwnerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 20):
        job.pages.mark_too_slow(number, 0.1)
    monkeypatch.setenv("OCR_PAGE_SECONDS", "0.2")
    settings.clear()

    drawing_limit.check(job)


def test_a_page_in_time_is_not_marked(job: OwnerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_PAGE_SECONDS", "60")
    settings.clear()
    with context.job(job):
        with drawing_limit.limited(7):
            pass
        assert not drawing_limit.was_reached(7)


def test_a_job_with_many_such_pages_fails(job: OwnerContext) -> None:
    for number in range(1, 10):
        job.pages.mark_too_slow(number, 0.1)
    drawing_limit.check(job)

    job.pages.mark_too_slow(10, 0.1)
    with pytest.raises(errors.PagesTooSlow, match="10 pages"):
        drawing_limit.check(job)
