"""Converts OCRmyPDF's progress bars into the progress of a job."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

from ocr_tasks.model import Progress, Stage

#: The stage of each of OCRmyPDF's progress bars, by its description. Other progress bars do not
#: change the stage.
STAGES = {
    "Scanning contents": Stage.SCANNING,
    "OCR": Stage.OCR,
    "Image processing": Stage.OCR,
    "PDF/A conversion": Stage.ASSEMBLING,
    "Linearizing": Stage.ASSEMBLING,
    "Recompressing JPEGs": Stage.OPTIMIZING,
    "Deflating JPEGs": Stage.OPTIMIZING,
    "PNGs": Stage.OPTIMIZING,
    "JBIG2": Stage.OPTIMIZING,
    "Checking output": Stage.STORING,
}

#: The percentage of the job at which each stage begins and ends.
SHARES = {
    Stage.QUEUED: (0.0, 0.0),
    Stage.SCANNING: (0.0, 3.0),
    Stage.OCR: (3.0, 88.0),
    Stage.ASSEMBLING: (88.0, 93.0),
    Stage.OPTIMIZING: (93.0, 96.0),
    Stage.STORING: (96.0, 99.0),
}


class Reporter:
    """Tracks and reports the progress of a job.

    A new stage is reported at once, other changes at most once per interval. Stage, page count and
    percentage never decrease, although OCRmyPDF repeats stages when it rejects its PDF/A.
    """

    def __init__(
        self,
        report: Callable[[Progress], None],
        start: Progress,
        interval: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`interval` is the minimum time between two reports of the same stage, in seconds."""
        self._report = report
        self._progress = start
        self._interval = interval
        self._clock = clock
        self._reported_at = 0.0
        self._pending = False
        self._stage_since = clock()
        #: Number of pages from an earlier run of the job, which do not count for the estimate.
        self.resumed = 0
        self.seconds: dict[str, float] = {}

    def enter(self, stage: Stage) -> None:
        """Enters a stage, unless the job is in it or in a later one."""
        previous = self._progress.stage
        if stage.rank <= previous.rank:
            return
        self._count_seconds(previous)
        self._progress = dataclasses.replace(self._progress, stage=stage, eta_seconds=None)
        self._advance(SHARES[stage][0])
        self._send()

    def pages(self, done: int) -> None:
        """Sets the number of finished pages."""
        total = self._progress.pages_total
        done = max(done, self._progress.pages_done)
        self._progress = dataclasses.replace(self._progress, pages_done=done)
        self._estimate(done, total)
        self.fraction(Stage.OCR, done / total if total else 1.0)

    def fraction(self, stage: Stage, fraction: float) -> None:
        """Sets the finished part of a stage, from 0 to 1.

        A job that resumes repeats earlier stages, which do not change its percentage.
        """
        if stage is self._progress.stage:
            first, last = SHARES[stage]
            self._advance(first + (last - first) * max(0.0, min(1.0, fraction)))
        self._pending = True
        self.tick()

    def tick(self) -> None:
        """Reports a pending change if the interval has passed."""
        if self._pending and self._clock() - self._reported_at >= self._interval:
            self._send()

    def finish(self) -> dict[str, float]:
        """Returns the seconds that each stage took."""
        self._count_seconds(self._progress.stage)
        return self.seconds

    def _advance(self, percent: float) -> None:
        # 100 % is reserved for the state `succeeded`.
        percent = round(max(self._progress.percent, min(99.0, percent)), 1)
        self._progress = dataclasses.replace(self._progress, percent=percent)

    def _estimate(self, done: int, total: int) -> None:
        """Estimates the remaining time from the time per page, plus a share for later stages."""
        processed = done - self.resumed
        if processed <= 0:
            return
        page_seconds = (self._clock() - self._stage_since) / processed
        first, last = SHARES[Stage.OCR]
        later_stages = page_seconds * total * (100 - last) / (last - first)
        eta = round(page_seconds * (total - done) + later_stages, 1)
        self._progress = dataclasses.replace(self._progress, eta_seconds=eta)

    def _count_seconds(self, stage: Stage) -> None:
        now = self._clock()
        spent = self.seconds.get(stage, 0.0) + now - self._stage_since
        self.seconds[stage] = round(spent, 3)
        self._stage_since = now

    def _send(self) -> None:
        now = self._clock()
        self._progress = dataclasses.replace(self._progress, updated_at=now)
        self._reported_at = now
        self._pending = False
        self._report(self._progress)


class ProgressBar:
    """A progress bar of OCRmyPDF; implements `ocrmypdf.pluginspec.ProgressBar`.

    All its methods are called by the thread that called `ocrmypdf.ocr()`.
    """

    def __init__(
        self,
        *,
        total: float | None = None,
        desc: str | None = None,
        unit: str | None = None,
        disable: bool = False,
        reporter: Reporter,
        **_: Any,
    ) -> None:
        self._total = total
        self._stage = STAGES.get(desc or "")
        self._reporter = reporter
        self._done = 0.0

    def __enter__(self) -> ProgressBar:
        if self._stage:
            self._reporter.enter(self._stage)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> Literal[False]:
        if self._stage is Stage.OCR and kind is None:
            # OCRmyPDF now assembles the pages, for which it has no progress bar.
            self._reporter.enter(Stage.ASSEMBLING)
        return False

    def update(self, n: float = 1, *, completed: float | None = None) -> None:
        """Adds `n` to the finished part of the total, or sets it to `completed`."""
        self._done = self._done + n if completed is None else completed
        if self._stage is Stage.OCR:
            self._reporter.pages(int(self._done))
        elif self._stage is Stage.SCANNING and self._total:
            self._reporter.fraction(self._stage, self._done / self._total)
        else:
            self._reporter.tick()
