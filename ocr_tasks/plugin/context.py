"""The job that the plugin works for.

OCRmyPDF's hooks have no parameter for it. A worker process works on one document at a time, so the
job is a global variable of the process. Without a job (`ocrmypdf --plugin ocr_tasks.plugin`) it is
None, and the hooks that need a job do nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ocr_tasks.extensions import RemotePages
from ocr_tasks.model import PageFailure, Progress
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.plugin.progress import Reporter
from ocr_tasks.storage import layout


class RunYielded(Exception):
    """Ends a run early to yield to another document; a later run continues this one."""


@dataclass
class JobContext:
    """The job that a process works on, as its owner or as a helper.

    `warnings` has the texts of OCRmyPDF's warnings as keys, in order and without duplicates.
    """

    folder: layout.JobFolder
    preview_pixels: int
    warnings: dict[str, None] = field(default_factory=dict, kw_only=True)

    @property
    def pages(self) -> PageStore:
        return PageStore(self.folder)

    def hand_back(self, number: int) -> None:
        """Puts the work back into the queue, before this process ends itself because of a page."""


@dataclass
class RunContext:
    """The environment of a run: what the worker process provides to it.

    `report` is called with each progress. `threads` is the number of pages that are processed at
    the same time. `call_helpers(batch, count)` asks other processes to call `help_with`; it is None
    if there are no helpers. `should_yield(back)` returns whether to yield to another document;
    `back` is the time in seconds that it took to get to where an earlier run ended. `remote` says
    which pages are processed outside the workers. `page_stored(number)` is called when a page is
    stored; `number` is 1-based. `hand_back(number)` puts the job back into the queue, and stores
    the mark of a page.
    """

    report: Callable[[Progress], None]
    threads: int = 1
    call_helpers: Callable[[str, int], None] | None = None
    should_yield: Callable[[float], bool] = lambda back: False
    remote: RemotePages | None = None
    page_stored: Callable[[int], None] = lambda number: None
    hand_back: Callable[[int], object] = lambda number: None


@dataclass
class OwnerContext(JobContext):
    """One run of a job, in the process that owns the job.

    `run` is its id. `page_ready(number)` is called when the words of a page are stored. `threads`
    is the number of pages that are in progress at the same time, including remote ones. `slots`
    are those that this process may run OCR on if `run_context.remote` is set.
    `failures` and `succeeded` contain 1-based page numbers; `succeeded` are the pages on which OCR
    succeeded or that already had text. `ocr_finished` is set when the OCR stage ends.
    `too_slow` are pages that took too long to scan, which no program should be made to draw.
    `total` is the number of pages, `batches` that of the batches that helpers were called for. With
    `process_scans`, scans with very little text count as pages without text.
    """

    run: str
    reporter: Reporter
    keep_bad_pages: bool
    threads: int
    run_context: RunContext
    page_ready: Callable[[int], None] = lambda number: None
    failures: dict[int, PageFailure] = field(default_factory=dict)
    succeeded: set[int] = field(default_factory=set)
    too_slow: set[int] = field(default_factory=set)
    batches: int = 0
    total: int = 0
    process_scans: bool = False
    ocr_finished: threading.Event = field(default_factory=threading.Event)
    slots: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.slots = threading.Semaphore(self.run_context.threads)

    def hand_back(self, number: int) -> None:
        self.run_context.hand_back(number)


class _Thread(threading.local):
    page: int | None = None


_thread = _Thread()
_current: JobContext | None = None


def current() -> JobContext | None:
    """Returns the job that this process works on, or None."""
    return _current


def owner() -> OwnerContext | None:
    """Returns the job that this process owns, or None."""
    return _current if isinstance(_current, OwnerContext) else None


def page() -> int | None:
    """Returns the 1-based number of the page that this thread works on, or None."""
    return _thread.page


@contextmanager
def job(context: JobContext) -> Iterator[None]:
    """Sets the job of this process inside the `with` block."""
    global _current
    _current = context
    try:
        yield
    finally:
        _current = None


@contextmanager
def on_page(number: int) -> Iterator[None]:
    """Sets the page of this thread inside the `with` block."""
    _thread.page = number
    try:
        yield
    finally:
        _thread.page = None
