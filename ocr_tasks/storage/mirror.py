"""The scratch of one run of a job, whose files go to a bucket while it runs."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ocr_tasks import errors
from ocr_tasks.storage import layout
from ocr_tasks.storage.broker import RemoteObjects
from ocr_tasks.storage.s3 import Found, Objects

log = logging.getLogger(__name__)

_PAGE = re.compile(r"pages/(\d+)/([^/]+)")

#: That a page is done; put when its other files are there.
_DONE = "result.json"

#: Files of a page that no later run needs.
_FOR_OTHERS = (layout.PAGE_PREVIEW, "summary.json")

#: Transfers at the same time.
_AT_ONCE = 8

#: Seconds after which the log of a run is put again, and between two tries.
_LOG_SECONDS, _PAUSE = 5.0, 2.0


def key(job_id: str, name: str = "") -> str:
    """The name of an object in the bucket; a folder's ends with a slash."""
    return f"jobs/{job_id[:2]}/{job_id}/{name}"


def _of_page(name: str) -> tuple[int, str]:
    """The page that a file is of, and its name there; 0: of none."""
    found = _PAGE.fullmatch(name)
    return (int(found[1]), found[2]) if found else (0, "")


class Mirror:
    """See `store.AtWork`."""

    def __init__(self, objects: Objects | RemoteObjects, job_id: str) -> None:
        self._objects = objects
        self._job_id = job_id
        self._folder = layout.job(job_id)
        self._there: set[str] = set()
        self._done: set[int] = set()
        #: Files of pages that this run brought or put, and of these, those that it deleted.
        self._had: set[str] = set()
        self._gone: list[str] = []
        self._summaries: dict[str, Any] = {}
        self._logged = 0
        self._waiting: set[int] = set()
        self._begun = self._ended = False
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="transfer")
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    # What a run calls

    def begin(self) -> None:
        """Brings the document, and what earlier runs read of it; results of theirs go."""
        layout.discard(self._folder.path)  # what a run that was killed has left here
        prefix = key(self._job_id)
        found = {row.name.removeprefix(prefix): row for row in self._objects.below(prefix)}
        self._objects.delete([row.name for name, row in found.items() if name.startswith("runs/")])
        self._there = {name for name in found if not name.startswith("runs/")}
        self._done = {page for page, file in map(_of_page, found) if file == _DONE}
        wanted = {name: row for name, row in found.items() if self._is_wanted(name)}
        self._all(lambda name: self._fetch(name, wanted[name]), wanted)
        with suppress(FileNotFoundError, ValueError):
            self._summaries = json.loads((self._folder.path / layout.SUMMARIES).read_bytes())
        self._begun = True
        self._thread.start()

    def page_kept(self, number: int) -> None:
        """Has what was read on a page put into the bucket, soon."""
        with self._changed:
            if number not in self._done:
                self._waiting.add(number)
                self._changed.notify_all()

    def end(self, succeeded: bool) -> None:
        """Puts what is not there yet, results last of all, and deletes the scratch."""
        try:
            self._stop()
            if self._begun:  # else what is here may be half of what is there
                self._put_pages(self._missing_pages())
            if succeeded:
                self._put(self._names(self._folder.path / "runs"))
                here = set(self._names(self._folder.pages))
                self._gone = [name for name in self._had if name not in here]
        except errors.ServiceError as error:
            if succeeded:
                raise
            log.warning("not all of job %s is in the bucket: %s", self._job_id, error)
        finally:
            self._stop()
            self._pool.shutdown()
            layout.discard(self._folder.path)

    def settle(self) -> None:
        """Deletes from the bucket what this run, which counts, has no use for any more."""
        try:
            self._objects.delete([key(self._job_id, name) for name in self._gone])
        except errors.ServiceError as error:
            log.warning("of job %s more is kept than is needed: %s", self._job_id, error)

    # From the bucket

    def _is_wanted(self, name: str) -> bool:
        page, file = _of_page(name)
        if page:
            return page in self._done and file not in _FOR_OTHERS
        return name in (layout.INPUT, layout.LOG, layout.SUMMARIES)

    def _fetch(self, name: str, found: Found) -> None:
        path = self._folder.path / name
        with layout.failures():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                self._objects.get(found, file)
        self._note(name)

    # To the bucket, in a thread of its own

    def _run(self) -> None:
        while True:
            with self._changed:
                if not (self._waiting or self._ended):
                    self._changed.wait(_LOG_SECONDS)
                ended, pages = self._ended, sorted(self._waiting)
                self._waiting.clear()
            try:
                self._put_pages(pages)
            except errors.ServiceError as error:
                log.warning("pages of job %s wait for the bucket: %s", self._job_id, error)
                with self._changed:
                    self._waiting.update(pages)
                    if not self._ended:
                        self._changed.wait(_PAUSE)
            if ended:
                return  # what could not be put is tried once more by `end`

    def _stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread.ident:
            self._thread.join()

    def _missing_pages(self) -> list[int]:
        here = self._names(self._folder.pages)
        late = {_of_page(name)[0] for name in here if name not in self._there}
        return sorted(self._waiting | late - self._done - {0})

    def _put_pages(self, numbers: Iterable[int]) -> None:
        """Puts pages, so that none counts as done before all of it is there, and the log."""
        changed = False
        last: list[str] = []
        first: list[str] = []
        for number in numbers:
            changed = True
            for name in self._names(self._folder.page(number)):
                (last if name.endswith(_DONE) else first).append(name)
            with suppress(FileNotFoundError, ValueError):
                summary = (self._folder.page(number) / "summary.json").read_bytes()
                self._summaries[str(number)] = json.loads(summary)
        self._put(first)
        self._put(last)
        if changed:
            content = json.dumps(self._summaries).encode()
            self._objects.put(key(self._job_id, layout.SUMMARIES), content)
        self._put_log()

    def _put_log(self) -> None:
        with suppress(FileNotFoundError):
            size = self._folder.log.stat().st_size
            if size != self._logged:
                self._put([layout.LOG])
                self._logged = size

    def _put(self, names: Iterable[str]) -> None:
        self._all(self._put_one, names)

    def _put_one(self, name: str) -> None:
        with (self._folder.path / name).open("rb") as file:
            self._objects.put(key(self._job_id, name), file)
        self._there.add(name)
        self._note(name)

    def _note(self, name: str) -> None:
        if _of_page(name)[0]:
            self._had.add(name)

    def _all(self, transfer: Callable[[str], None], names: Iterable[str]) -> None:
        """Does as many at a time as may be; the first error is raised."""
        for done in [self._pool.submit(transfer, name) for name in names]:
            done.result()

    def _names(self, folder: Path) -> Iterator[str]:
        """The finished files in a folder of the scratch, by their names within it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield str(path.relative_to(self._folder.path))
