"""From OCRmyPDF's progress bars to the progress of a job."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

from ocr_tasks.model import Progress, Stage

#: Stage of each of OCRmyPDF's bars, by the description it gives them.
#: A bar of another name leaves the stage as it is.
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

#: Share of the whole job, in percent, at which each stage begins and ends.
SHARES = {
    Stage.QUEUED: (0.0, 0.0),
    Stage.SCANNING: (0.0, 3.0),
    Stage.OCR: (3.0, 88.0),
    Stage.ASSEMBLING: (88.0, 93.0),
    Stage.OPTIMIZING: (93.0, 96.0),
    Stage.STORING: (96.0, 99.0),
}


class Reporter:
    """Keeps the progress of a job and reports it: at every change of stage, else not too often.

    OCRmyPDF repeats stages when a PDF/A is rejected; what is reported never goes back.
    """

    def __init__(
        self,
        report: Callable[[Progress], None],
        start: Progress,
        interval: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`interval`: seconds between two reports of the same stage at least."""
        self._report = report
        self._progress = start
        self._interval = interval
        self._clock = clock
        self._reported_at = 0.0
        self._pending = False
        self._stage_since = clock()
        #: Pages that an earlier run of the job had read; they say nothing of the pace.
        self.resumed = 0
        self.seconds: dict[str, float] = {}

    def enter(self, stage: Stage) -> None:
        """The job is in this stage now, unless it was further before."""
        before = self._progress.stage
        if stage.rank <= before.rank:
            return
        self._count_seconds(before)
        self._progress = dataclasses.replace(self._progress, stage=stage, eta_seconds=None)
        self._advance(SHARES[stage][0])
        self._send()

    def pages(self, done: int) -> None:
        """So many pages have been read."""
        total = self._progress.pages_total
        done = max(done, self._progress.pages_done)
        self._progress = dataclasses.replace(self._progress, pages_done=done)
        self._estimate(done, total)
        self.fraction(done / total if total else 1.0)

    def fraction(self, fraction: float) -> None:
        """This part (0–1) of the present stage is done."""
        first, last = SHARES[self._progress.stage]
        self._advance(first + (last - first) * max(0.0, min(1.0, fraction)))
        self._pending = True
        self.tick()

    def tick(self) -> None:
        """Reports what was held back, if it is time."""
        if self._pending and self._clock() - self._reported_at >= self._interval:
            self._send()

    def finish(self) -> dict[str, float]:
        """The seconds that each stage took."""
        self._count_seconds(self._progress.stage)
        return self.seconds

    def _advance(self, percent: float) -> None:
        # Below 100 until the result is committed: then the job's state says so.
        percent = round(max(self._progress.percent, min(99.0, percent)), 1)
        self._progress = dataclasses.replace(self._progress, percent=percent)

    def _estimate(self, done: int, total: int) -> None:
        """Time left: the pages to come at the pace so far, and a tail in proportion."""
        read = done - self.resumed
        if read <= 0:
            return
        pace = (self._clock() - self._stage_since) / read
        first, last = SHARES[Stage.OCR]
        tail = pace * total * (100 - last) / (last - first)
        eta = round(pace * (total - done) + tail, 1)
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
    """One of OCRmyPDF's progress bars; all its calls come from the thread that called `ocr()`.

    Protocol: `ocrmypdf.pluginspec.ProgressBar`.
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
            # Putting the pages together begins, and has no bar of its own.
            self._reporter.enter(Stage.ASSEMBLING)
        return False

    def update(self, n: float = 1, *, completed: float | None = None) -> None:
        """OCRmyPDF's call: `n` more of the total, or `completed` of it in all."""
        self._done = self._done + n if completed is None else completed
        if self._stage is Stage.OCR:
            self._reporter.pages(int(self._done))
        elif self._stage is Stage.SCANNING and self._total:
            self._reporter.fraction(self._done / self._total)
        else:
            self._reporter.tick()
