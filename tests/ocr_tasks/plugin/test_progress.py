"""From OCRmyPDF's progress bars to the progress of a job."""

from __future__ import annotations

import itertools

from ocr_tasks.model import Progress, Stage
from ocr_tasks.plugin.progress import STAGES, ProgressBar, Reporter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(total: int = 10, interval: float = 0.25) -> tuple[Reporter, list[Progress], Clock]:
    sent: list[Progress] = []
    clock = Clock()
    return Reporter(sent.append, Progress(pages_total=total), interval, clock), sent, clock


def play(reporter: Reporter, clock: Clock, desc: str, total: int, step: float = 1.0) -> None:
    with ProgressBar(total=total, desc=desc, unit="x", reporter=reporter) as bar:
        for _ in range(total):
            clock.now += step
            bar.update()


def test_a_whole_run_passes_the_stages_and_never_goes_back() -> None:
    reporter, sent, clock = make()
    for desc, total in [
        ("Scanning contents", 10),
        ("OCR", 10),
        ("PDF/A conversion", 10),
        ("Linearizing", 100),
        ("Recompressing JPEGs", 3),
        ("Deflating JPEGs", 3),
        ("JBIG2", 0),
        ("Checking output", 100),
    ]:
        play(reporter, clock, desc, total)

    stages = list(dict.fromkeys(progress.stage for progress in sent))
    percents = [progress.percent for progress in sent]
    assert stages == [s for s in Stage if s is not Stage.QUEUED]
    assert percents == sorted(percents)
    assert percents[-1] < 100


def test_a_rejected_pdfa_repeats_stages_without_going_back() -> None:
    reporter, sent, clock = make()
    for desc in ("OCR", "Linearizing", "JBIG2", "PDF/A conversion", "Linearizing", "JBIG2"):
        play(reporter, clock, desc, 10)

    ranks = [progress.stage.rank for progress in sent]
    assert ranks == sorted(ranks)


def test_reports_of_one_stage_keep_a_minimum_interval() -> None:
    reporter, sent, clock = make(total=1000)
    with ProgressBar(total=1000, desc="OCR", unit="page", reporter=reporter) as bar:
        for _ in range(1000):
            clock.now += 0.01
            bar.update()
    in_ocr = [p.updated_at for p in sent if p.stage is Stage.OCR and p.updated_at]

    assert 30 <= len(in_ocr) <= 41
    assert all(b - a >= 0.25 for a, b in itertools.pairwise(in_ocr))


def test_a_delayed_report_is_sent_later() -> None:
    reporter, sent, clock = make()
    with ProgressBar(total=10, desc="OCR", unit="page", reporter=reporter) as bar:
        bar.update()
        assert sent[-1].pages_done == 0
        clock.now += 0.3
        reporter.tick()
        assert sent[-1].pages_done == 1
        reporter.tick()
        assert len(sent) == 2


def test_halves_of_pages_and_absolute_counts_are_supported() -> None:
    reporter, sent, clock = make(total=2)
    with ProgressBar(total=2, desc="OCR", unit="page", reporter=reporter) as bar:
        clock.now += 1
        bar.update(0.5)
        assert sent[-1].pages_done == 0
        clock.now += 1
        bar.update(0.5)
        assert sent[-1].pages_done == 1
        clock.now += 1
        bar.update(completed=2)
        assert sent[-1].pages_done == 2


def test_an_unknown_bar_does_not_change_the_stage() -> None:
    reporter, sent, clock = make()
    play(reporter, clock, "OCR", 10)
    play(reporter, clock, "Something new in OCRmyPDF", 5)

    assert sent[-1].stage is Stage.ASSEMBLING


def test_bars_without_a_total_are_ignored() -> None:
    reporter, sent, _ = make(total=0)
    for desc in STAGES:
        with ProgressBar(total=None, desc=desc, unit="%", disable=True, reporter=reporter) as bar:
            bar.update(0)

    assert sent[-1].percent <= 99


def test_the_remaining_time_is_reported_after_the_first_page_and_decreases() -> None:
    reporter, sent, clock = make(total=10)
    play(reporter, clock, "OCR", 10, step=2.0)
    etas = [p.eta_seconds for p in sent if p.stage is Stage.OCR]

    assert etas[0] is None
    told = [eta for eta in etas if eta is not None]
    assert told == sorted(told, reverse=True)
    assert 18 <= told[0] <= 25


def test_pages_of_an_earlier_run_do_not_count_in_the_pace() -> None:
    reporter, sent, clock = make(total=10)
    with ProgressBar(total=10, desc="OCR", unit="page", reporter=reporter) as bar:
        for _ in range(5):
            reporter.resumed += 1
            bar.update()
        assert all(progress.eta_seconds is None for progress in sent)
        clock.now += 4
        bar.update()

    eta = next(p.eta_seconds for p in sent if p.eta_seconds is not None)
    assert 16 <= eta <= 25


def test_a_resumed_job_keeps_its_percentage() -> None:
    sent: list[Progress] = []
    clock = Clock()
    reporter = Reporter(sent.append, Progress(pages_total=4, percent=70.0), 0.25, clock)
    play(reporter, clock, "Scanning contents", 4)
    play(reporter, clock, "OCR", 4)

    assert all(progress.percent >= 70 for progress in sent)


def test_seconds_are_counted_per_stage() -> None:
    reporter, _, clock = make()
    play(reporter, clock, "Scanning contents", 3)
    play(reporter, clock, "OCR", 5)
    reporter.enter(Stage.STORING)
    clock.now += 2

    seconds = reporter.finish()
    assert seconds["scanning"] == 3
    assert seconds["ocr"] == 5
    assert seconds["storing"] == 2


def test_the_percentage_of_a_resumed_job_fits_its_pages() -> None:
    """After a crash, another worker scans the document again while the stage is already `ocr`."""
    sent: list[Progress] = []
    clock = Clock()
    start = Progress(stage=Stage.OCR, pages_done=1, pages_total=6, percent=17.2)
    reporter = Reporter(sent.append, start, 0, clock)

    play(reporter, clock, "Scanning contents", 6)
    play(reporter, clock, "OCR", 6)

    of_ocr = [progress for progress in sent if progress.stage is Stage.OCR]
    assert of_ocr
    for progress in of_ocr:
        assert progress.percent <= 3 + 85 * progress.pages_done / 6 + 0.1
    assert of_ocr[-1].percent == 88


def test_an_earlier_stage_does_not_change_the_percentage() -> None:
    """OCRmyPDF processes a damaged document more than once."""
    reporter, sent, clock = make(total=4)
    for desc in ("Scanning contents", "OCR", "PDF/A conversion"):
        play(reporter, clock, desc, 4)
    before = sent[-1].percent

    for desc in ("Scanning contents", "OCR"):
        play(reporter, clock, desc, 4)

    assert sent[-1].percent == before
