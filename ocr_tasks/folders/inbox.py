"""A folder in which documents appear, and are read: what `ocr-tasks watch` does."""

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
from ocr_tasks.client.models import sentences
from ocr_tasks.folders import documents, moving
from ocr_tasks.folders.documents import Found
from ocr_tasks.folders.ledger import Ledger, Stamp
from ocr_tasks.folders.reader import Changed, NotRead, Read, Reader

#: Seconds between two looks where the system tells of changes: it may have missed one.
_LOOK_SECONDS = 60.0

#: Seconds until a document is tried again when that is no fault of its own, at first and at most.
_AGAIN_FIRST, _AGAIN_MOST = 2.0, 60.0

#: Seconds after which it is tried again even if the server asks for more: its limits may have been
#: raised by then.
_ASKED_MOST = 600.0

#: Answers that are about the document, and not about the server, its operator or the token.
_ITS_FAULT = frozenset({413, 415, 422})


@dataclass(frozen=True)
class Manners:
    """How a folder is looked after.

    What was read goes to `archive`, is deleted, or else stays and is remembered; what cannot be
    read goes to `failed`. A file is complete once it has not changed for `settle` seconds; a PDF
    without its end, and an empty file, once that has been so for `unfinished` seconds. With `poll`
    it is looked at every so many seconds, instead of when the system tells of a change.
    """

    archive: Path | None
    failed: Path
    delete: bool
    settle: float
    unfinished: float
    poll: float
    at_once: int


@dataclass
class _Sight:
    """A document that is here: with this stamp since then, to be tried after `again`."""

    stamp: Stamp
    since: float
    again: float = 0.0
    pause: float = field(default=_AGAIN_FIRST)


class Inbox:
    """The documents of a folder and its folders."""

    def __init__(
        self,
        folder: Path,
        reader: Reader,
        ledger: Ledger,
        manners: Manners,
        without: set[Path],
        say: Callable[[str], object],
    ) -> None:
        """`without`: folders in it that are none of its documents; `say` gets a line at a time."""
        self._folder, self._reader, self._ledger = folder, reader, ledger
        self._manners, self._without, self._say = manners, without, say
        self._sights: dict[str, _Sight] = {}
        self._at_hand: set[str] = set()
        self._left = {entry.name: entry.stamp for entry in ledger.all() if entry.done}
        self._wake = asyncio.Event()
        self._trouble = ""

    async def watch(self) -> None:
        """Reads what comes, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            if not self._manners.poll:
                group.create_task(self._listen())
            while True:
                self._wake.clear()
                soon = await self._look(group)
                # Not by `wait_for`, which before Python 3.12 forgets to be cancelled if it wakes up
                # at the same moment.
                with suppress(TimeoutError):
                    async with asyncio.timeout(soon):
                        await self._wake.wait()

    async def _listen(self) -> None:
        """Has the folder looked at when the system tells of a change."""
        while True:
            with suppress(OSError, RuntimeError):  # it has gone, or there are too many folders
                async for _ in watchfiles.awatch(self._folder, watch_filter=None):
                    self._wake.set()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Begins with what can be read now; gives the seconds until the next look."""
        now = time.monotonic()
        try:
            seen = await asyncio.to_thread(self._see)
        except OSError as error:
            self._cannot_see(error)
            return _AGAIN_FIRST
        self._sights = {
            name: before
            if (before := self._sights.get(name)) and before.stamp == stamp
            else _Sight(stamp, now)
            for name, (_, stamp) in seen.items()
        }
        soon = self._manners.poll or _LOOK_SECONDS
        for name, sight in sorted(self._sights.items(), key=lambda row: row[1].stamp.mtime_ns):
            if name in self._at_hand or self._stays(name, sight.stamp):
                continue
            wait = await self._seconds_left(seen[name][0].path, sight, now)
            if wait > 0:
                soon = min(soon, wait)
            elif len(self._at_hand) < self._manners.at_once:
                self._at_hand.add(name)
                group.create_task(self._take(seen[name][0], name, sight))
        return max(soon, 0.05)

    def _see(self) -> dict[str, tuple[Found, Stamp]]:
        seen = {}
        for found in documents.walk(self._folder, self._without, self._cannot_see):
            with suppress(FileNotFoundError):
                seen[found.place.as_posix()] = found, Stamp.of(found.path)
        return seen

    def _cannot_see(self, error: OSError) -> None:
        self._tell_trouble(f"{error.filename} cannot be read: {error.strerror}")

    def _stays(self, name: str, stamp: Stamp) -> bool:
        """Whether a document was read and is to stay where it is."""
        moves = self._manners.archive or self._manners.delete
        return not moves and self._left.get(name) == stamp

    async def _seconds_left(self, path: Path, sight: _Sight, now: float) -> float:
        """Seconds until a document may be tried, 0 for now."""
        wait = max(sight.since + self._manners.settle, sight.again) - now
        if wait > 0 or now - sight.since >= self._manners.unfinished:
            return wait
        try:
            complete = await asyncio.to_thread(documents.finished, path)
        except OSError:
            complete = False
        left = sight.since + self._manners.unfinished - now
        return 0 if complete else min(left, max(1.0, self._manners.settle))

    # One document

    async def _take(self, found: Found, name: str, sight: _Sight) -> None:
        try:
            read = await self._reader.read(found, name, renew=False)
            self._trouble = ""
            await asyncio.to_thread(self._finish, found, name, read)
        except NotRead as error:
            self._set_aside(found, name, sight, error.why.code, str(error))
        except ApiError as error:
            its_fault = error.status in _ITS_FAULT or error.code == "artifact_not_found"
            if its_fault and error.code != "language_unavailable":
                text = sentences(error.detail, error.advice)
                self._set_aside(found, name, sight, error.code, text)
            else:
                self._later(sight, f"the server refuses: {error} [{error.code}]", error.retry_after)
        except httpx.TransportError as error:
            self._later(sight, f"the server does not answer: {error or type(error).__name__}")
        except (Changed, FileNotFoundError):
            self._sights.pop(name, None)
        except (TransferError, OSError) as error:
            self._later(sight, f"{name}: {error}")
        finally:
            self._at_hand.discard(name)
            self._wake.set()

    def _finish(self, found: Found, name: str, read: Read) -> None:
        """Takes a document away that was read, if it is to go and is still the same."""
        if read.now:
            self._say(f"{name} → {', '.join(map(str, read.results))}")
            for page in read.job.failed_pages if read.job else ():
                self._say(f"{name}: page {page.page} keeps its image: {page.message}")
        if Stamp.of(found.path) != read.entry.stamp:
            return
        if self._manners.archive:
            moving.move(found.path, self._manners.archive / found.place)
        elif self._manners.delete:
            found.path.unlink()
        else:
            self._left[name] = read.entry.stamp
            return
        self._ledger.forget(name)

    def _set_aside(self, found: Found, name: str, sight: _Sight, code: str, text: str) -> None:
        """Moves a document away that cannot be read, and writes beside it why."""
        try:
            if Stamp.of(found.path) != sight.stamp:  # that was half of it
                return
            where = moving.move(found.path, self._manners.failed / found.place)
            moving.write_beside(where, f"{code}\n\n{text}\n")
            self._ledger.forget(name)
        except OSError as error:
            self._say(f"{name} cannot be moved to {self._manners.failed}: {error}")
            sight.again = math.inf
        else:
            self._say(f"{name}: {text} [{code}] → {where}")

    def _later(self, sight: _Sight, why: str, asked: float | None = None) -> None:
        """Has a document tried again after a while."""
        self._tell_trouble(why)
        asked = min(asked or 0, _ASKED_MOST)
        sight.again = time.monotonic() + max(sight.pause, asked)
        sight.pause = min(_AGAIN_MOST, sight.pause * 2)

    def _tell_trouble(self, why: str) -> None:
        """Says what keeps documents waiting, once."""
        if why != self._trouble:
            self._trouble = why
            self._say(f"{why}. Going on when that is over.")
