"""What the plugin knows of the job it works for.

OCRmyPDF gives its hooks no place for that. A worker process reads one document at a time, so a
variable of the process does; without a job (`ocrmypdf --plugin ocr_tasks.plugin`) there is none,
and the hooks that are for jobs step aside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ocr_tasks.model import PageFailure
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.plugin.progress import Reporter
from ocr_tasks.storage import layout


class StepAside(Exception):
    """The run ends before the document is done, to make place; another run goes on with it."""


@dataclass
class JobContext:
    """The job that a process reads pages for, as the owner of the job or as a helper.

    `warnings` are the texts of OCRmyPDF's warnings, as they come.
    """

    folder: layout.JobFolder
    preview_pixels: int
    warnings: dict[str, None] = field(default_factory=dict, kw_only=True)

    @property
    def pages(self) -> PageStore:
        return PageStore(self.folder)


@dataclass
class Devices:
    """How devices outside take part in reading a document, by a plugin that knows about them.

    So many pages may be `out` at the same time. `first`: they get every page; else those that this
    process has no time for. `slots` are for pages that are read here. `plugin` hands pages out.
    """

    out: int
    first: bool
    slots: threading.Semaphore
    plugin: str


@dataclass
class OwnerContext(JobContext):
    """One run of a job, in the process that owns it.

    `run` is its id. `call_helpers(batch, count)` asks other workers for help; None: there are none.
    `turn_is_over(back)` says whether to make place for another document, `back` being the seconds
    that it took to get to where an earlier run ended. `page_ready(number)` is told when the words
    of a page are on storage. `threads` is the number of pages that this process reads at the same
    time. `failures` and `read` are by page, counted from 1.
    """

    run: str
    reporter: Reporter
    keep_bad_pages: bool
    threads: int
    call_helpers: Callable[[str, int], None] | None
    turn_is_over: Callable[[float], bool] = lambda back: False
    page_ready: Callable[[int], None] = lambda number: None
    failures: dict[int, PageFailure] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    devices: Devices | None = None
    reading_over: threading.Event = field(default_factory=threading.Event)


class _Thread(threading.local):
    page: int | None = None


_thread = _Thread()
_current: JobContext | None = None


def current() -> JobContext | None:
    """The job that this process works for."""
    return _current


def owner() -> OwnerContext | None:
    """The job that this process owns."""
    return _current if isinstance(_current, OwnerContext) else None


def page() -> int | None:
    """The page that this thread works on, counted from 1."""
    return _thread.page


@contextmanager
def job(context: JobContext) -> Iterator[None]:
    """Makes this the job of the process for the time of the block."""
    global _current
    _current = context
    try:
        yield
    finally:
        _current = None


@contextmanager
def on_page(number: int) -> Iterator[None]:
    """Makes this the page of the thread for the time of the block."""
    _thread.page = number
    try:
        yield
    finally:
        _thread.page = None
