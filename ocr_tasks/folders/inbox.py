"""Watches a folder and processes the documents that appear in it, for `ocr-tasks watch`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import watchfiles

from ocr_tasks.client import ApiError, TransferError
from ocr_tasks.client.models import join_sentences
from ocr_tasks.folders import documents, moving
from ocr_tasks.folders.document_processor import (
    DocumentChanged,
    DocumentProcessor,
    JobFailed,
    Result,
)
from ocr_tasks.folders.documents import Document
from ocr_tasks.folders.ledger import Ledger, Stamp

#: Seconds between two scans if the system reports changes, because notifications can get lost.
_SCAN_SECONDS = 60.0

#: Seconds of the first and of the longest pause before a document is retried.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0

#: Longest pause in seconds that a server can request. Its limits may have been raised by then.
_LONGEST_REQUESTED_PAUSE = 600.0

#: Statuses of responses that are about the document, not about the server or the token.
_DOCUMENT_ERRORS = frozenset({413, 415, 422})


@dataclass(frozen=True)
class InboxOptions:
    """How a folder is watched.

    Processed documents are moved to `archive` or deleted; otherwise they stay and are recorded in
    the ledger. Failed documents are moved to `failed`. A file is processed when it has not changed
    for `settle` seconds; an incomplete PDF or an empty file, after `unfinished` seconds. If `poll`
    is not 0, the folder is scanned at this interval in seconds, instead of when the system reports
    a change. `at_once` is the number of documents processed at the same time.
    """

    archive: Path | None
    failed: Path
    delete: bool
    settle: float
    unfinished: float
    poll: float
    at_once: int


@dataclass
class _Candidate:
    """A file in the folder. Times are those of `time.monotonic`.

    It has had its stamp since `since`, and is not tried before `not_before`. `pause` is the number
    of seconds before the next retry.
    """

    stamp: Stamp
    since: float
    not_before: float = 0.0
    pause: float = field(default=_FIRST_PAUSE)


class Inbox:
    """A watched folder with its subfolders."""

    def __init__(
        self,
        folder: Path,
        processor: DocumentProcessor,
        ledger: Ledger,
        options: InboxOptions,
        excluded: set[Path],
        report: Callable[[str], object],
    ) -> None:
        """`excluded` are subfolders to skip. `report` is called with each line of output."""
        self._folder, self._processor, self._ledger = folder, processor, ledger
        self._options, self._excluded, self._report = options, excluded, report
        self._candidates: dict[str, _Candidate] = {}
        self._in_progress: set[str] = set()
        self._kept = {entry.name: entry.stamp for entry in ledger.all() if entry.done}
        self._wake = asyncio.Event()
        self._problem = ""

    async def watch(self) -> None:
        """Processes documents until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            if not self._options.poll:
                group.create_task(self._listen())
            while True:
                self._wake.clear()
                seconds = await self._scan(group)
                # Before Python 3.12, `wait_for` can lose a cancellation that arrives at the same
                # moment as the result.
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._wake.wait()

    async def _listen(self) -> None:
        """Triggers a scan when the system reports a change."""
        while True:
            with suppress(OSError, RuntimeError):  # the folder is gone, or has too many subfolders
                async for _ in watchfiles.awatch(self._folder, watch_filter=None):
                    self._wake.set()
            await asyncio.sleep(_SCAN_SECONDS)

    async def _scan(self, group: asyncio.TaskGroup) -> float:
        """Starts processing documents that are due. Returns the seconds until the next scan."""
        now = time.monotonic()
        try:
            current = await asyncio.to_thread(self._list)
        except OSError as error:
            self._on_unreadable(error)
            return _FIRST_PAUSE
        self._candidates = {
            name: known
            if (known := self._candidates.get(name)) and known.stamp == stamp
            else _Candidate(stamp, now)
            for name, (_, stamp) in current.items()
        }
        next_scan = self._options.poll or _SCAN_SECONDS
        oldest_first = sorted(self._candidates.items(), key=lambda row: row[1].stamp.mtime_ns)
        for name, candidate in oldest_first:
            if name in self._in_progress or self._stays(name, candidate.stamp):
                continue
            wait = await self._seconds_until_due(current[name][0].path, candidate, now)
            if wait > 0:
                next_scan = min(next_scan, wait)
            elif len(self._in_progress) < self._options.at_once:
                self._in_progress.add(name)
                group.create_task(self._process(current[name][0], name, candidate))
        return max(next_scan, 0.05)

    def _list(self) -> dict[str, tuple[Document, Stamp]]:
        current = {}
        for document in documents.walk(self._folder, self._excluded, self._on_unreadable):
            with suppress(FileNotFoundError):
                current[document.place.as_posix()] = document, Stamp.of(document.path)
        return current

    def _on_unreadable(self, error: OSError) -> None:
        self._report_problem(f"{error.filename} cannot be read: {error.strerror}")

    def _stays(self, name: str, stamp: Stamp) -> bool:
        """Returns whether a document is done and stays in the folder."""
        moves = self._options.archive or self._options.delete
        return not moves and self._kept.get(name) == stamp

    async def _seconds_until_due(self, path: Path, candidate: _Candidate, now: float) -> float:
        """Returns the seconds until a document may be processed, at most 0 if it may be now."""
        wait = max(candidate.since + self._options.settle, candidate.not_before) - now
        if wait > 0 or now - candidate.since >= self._options.unfinished:
            return wait
        try:
            complete = await asyncio.to_thread(documents.is_complete, path)
        except OSError:
            complete = False
        remaining = candidate.since + self._options.unfinished - now
        return 0 if complete else min(remaining, max(1.0, self._options.settle))

    # One document

    async def _process(self, document: Document, name: str, candidate: _Candidate) -> None:
        try:
            result = await self._processor.process(document, name, renew=False)
            self._problem = ""
            await asyncio.to_thread(self._finish, document, name, result)
        except JobFailed as error:
            self._move_failed(document, name, candidate, error.failure.code, str(error))
        except ApiError as error:
            about_document = error.status in _DOCUMENT_ERRORS or error.code == "artifact_not_found"
            if about_document and error.code != "language_unavailable":
                text = join_sentences(error.detail, error.advice)
                self._move_failed(document, name, candidate, error.code, text)
            else:
                reason = f"the server rejected the request: {error} [{error.code}]"
                self._retry_later(candidate, reason, error.retry_after)
        except httpx.TransportError as error:
            reason = f"the server does not respond: {error or type(error).__name__}"
            self._retry_later(candidate, reason)
        except (DocumentChanged, FileNotFoundError):
            self._candidates.pop(name, None)
        except (TransferError, OSError) as error:
            self._retry_later(candidate, f"{name}: {error}")
        finally:
            self._in_progress.discard(name)
            self._wake.set()

    def _finish(self, document: Document, name: str, result: Result) -> None:
        """Moves or deletes a processed document, unless it has changed since."""
        if result.new:
            self._report(f"{name} → {', '.join(map(str, result.paths))}")
            for page in result.job.failed_pages if result.job else ():
                self._report(f"{name}: OCR failed on page {page.page}: {page.message}")
        if Stamp.of(document.path) != result.entry.stamp:
            return
        if self._options.archive:
            moving.move(document.path, self._options.archive / document.place)
        elif self._options.delete:
            document.path.unlink()
        else:
            self._kept[name] = result.entry.stamp
            return
        self._ledger.delete(name)

    def _move_failed(
        self, document: Document, name: str, candidate: _Candidate, code: str, text: str
    ) -> None:
        """Moves a document to the folder for failed documents, with a file that says why."""
        try:
            if Stamp.of(document.path) != candidate.stamp:  # it was not complete
                return
            target = moving.move(document.path, self._options.failed / document.place)
            moving.write_text_file(target, f"{code}\n\n{text}\n")
            self._ledger.delete(name)
        except OSError as error:
            self._report(f"{name} cannot be moved to {self._options.failed}: {error}")
            candidate.not_before = math.inf
        else:
            self._report(f"{name}: {text} [{code}] → {target}")

    def _retry_later(
        self, candidate: _Candidate, reason: str, requested: float | None = None
    ) -> None:
        """Postpones a document. `requested` is the pause in seconds that the server requests."""
        self._report_problem(reason)
        requested = min(requested or 0, _LONGEST_REQUESTED_PAUSE)
        candidate.not_before = time.monotonic() + max(candidate.pause, requested)
        candidate.pause = min(_LONGEST_PAUSE, candidate.pause * 2)

    def _report_problem(self, reason: str) -> None:
        """Reports why documents are waiting, once per reason."""
        if reason != self._problem:
            self._problem = reason
            self._report(f"{reason}. Retrying automatically.")
