"""Downloads the files that a run needs from a bucket, and uploads its results while it runs."""

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
from ocr_tasks.storage.s3 import ObjectInfo, Objects

log = logging.getLogger(__name__)

_PAGE = re.compile(r"pages/(\d+)/([^/]+)")

#: The file that marks a page as done. It is uploaded after all other files of the page.
_DONE = "result.json"

#: Files of a page that a later run does not need.
_NOT_NEEDED = (layout.PAGE_PREVIEW, "summary.json")

#: Maximum number of concurrent transfers.
_CONCURRENCY = 8

#: Seconds between two uploads of the log, and between two attempts.
_LOG_SECONDS, _RETRY_SECONDS = 5.0, 2.0


def key(job_id: str, name: str = "") -> str:
    """Returns the key of a job's file in the bucket. Names of folders end with a slash."""
    return f"jobs/{job_id[:2]}/{job_id}/{name}"


def _split_page(name: str) -> tuple[int, str]:
    """Returns the page number and the file name of a page's file; 0 and '' for other files."""
    match = _PAGE.fullmatch(name)
    return (int(match[1]), match[2]) if match else (0, "")


class Mirror:
    """See `store.AtWork`."""

    def __init__(self, objects: Objects | RemoteObjects, job_id: str) -> None:
        self._objects = objects
        self._job_id = job_id
        self._folder = layout.job(job_id)
        #: Files in the bucket.
        self._stored: set[str] = set()
        #: Pages that were done before this run.
        self._done: set[int] = set()
        #: Files of pages that this run has transferred, and those of them that it deleted here.
        self._transferred: set[str] = set()
        self._deleted: list[str] = []
        self._summaries: dict[str, Any] = {}
        #: Size of the log at its last upload.
        self._log_size = 0
        self._pending: set[int] = set()
        self._begun = self._ended = False
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="transfer")
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    # Called by the run

    def begin(self) -> None:
        """Downloads the document and its finished pages. Deletes results of earlier runs."""
        layout.delete_tree(self._folder.path)  # files of a run on this host that was killed
        prefix = key(self._job_id)
        existing = {row.name.removeprefix(prefix): row for row in self._objects.below(prefix)}
        self._objects.delete(
            [row.name for name, row in existing.items() if name.startswith("runs/")]
        )
        self._stored = {name for name in existing if not name.startswith("runs/")}
        self._done = {page for page, file in map(_split_page, existing) if file == _DONE}
        needed = {name: row for name, row in existing.items() if self._is_needed(name)}
        self._run_all(lambda name: self._download(name, needed[name]), needed)
        with suppress(FileNotFoundError, ValueError):
            self._summaries = json.loads((self._folder.path / layout.SUMMARIES).read_bytes())
        self._begun = True
        self._thread.start()

    def page_stored(self, number: int) -> None:
        """Schedules the upload of a page. `number` is 1-based."""
        with self._changed:
            if number not in self._done:
                self._pending.add(number)
                self._changed.notify_all()

    def store_now(self, number: int) -> None:
        """Uploads the files of a page. `number` is 1-based."""
        self._upload(self._names(self._folder.page(number)))

    def end(self, succeeded: bool) -> None:
        """Uploads the remaining files, results last, and deletes the local folder of the job."""
        try:
            self._stop()
            if self._begun:  # otherwise files here may be incomplete downloads
                self._upload_pages(self._missing_pages())
            if succeeded:
                self._upload(self._names(self._folder.path / "runs"))
                local = set(self._names(self._folder.pages))
                self._deleted = [name for name in self._transferred if name not in local]
        except errors.ServiceError as error:
            if succeeded:
                raise
            log.warning("cannot upload all files of job %s: %s", self._job_id, error)
        finally:
            self._stop()
            self._pool.shutdown()
            layout.delete_tree(self._folder.path)

    def settle(self) -> None:
        """Deletes the objects of files that this run has deleted locally. Call it after commit."""
        try:
            self._objects.delete([key(self._job_id, name) for name in self._deleted])
        except errors.ServiceError as error:
            log.warning("cannot delete unneeded files of job %s: %s", self._job_id, error)

    # Downloads

    def _is_needed(self, name: str) -> bool:
        page, file = _split_page(name)
        if page:
            is_mark = file == layout.PAGE_TOO_SLOW
            return is_mark or (page in self._done and file not in _NOT_NEEDED)
        return name in (layout.INPUT, layout.LOG, layout.SUMMARIES)

    def _download(self, name: str, info: ObjectInfo) -> None:
        path = self._folder.path / name
        with layout.storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                self._objects.get(info, file)
        self._record(name)

    # Uploads, in a thread of their own

    def _run(self) -> None:
        while True:
            with self._changed:
                if not (self._pending or self._ended):
                    self._changed.wait(_LOG_SECONDS)
                ended, pages = self._ended, sorted(self._pending)
                self._pending.clear()
            try:
                self._upload_pages(pages)
            except (errors.ServiceError, OSError) as error:  # OSError: the job has been deleted
                log.warning("cannot upload pages of job %s yet: %s", self._job_id, error)
                with self._changed:
                    self._pending.update(pages)
                    if not self._ended:
                        self._changed.wait(_RETRY_SECONDS)
            if ended:
                return  # `end` retries what could not be uploaded

    def _stop(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread.ident:
            self._thread.join()

    def _missing_pages(self) -> list[int]:
        local = self._names(self._folder.pages)
        missing = {_split_page(name)[0] for name in local if name not in self._stored}
        return sorted(self._pending | missing - self._done - {0})

    def _upload_pages(self, numbers: Iterable[int]) -> None:
        """Uploads pages and the log. The file that marks a page as done is uploaded last."""
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
        self._upload(first)
        self._upload(last)
        if changed:
            content = json.dumps(self._summaries).encode()
            self._objects.put(key(self._job_id, layout.SUMMARIES), content)
        self._upload_log()

    def _upload_log(self) -> None:
        with suppress(FileNotFoundError):
            size = self._folder.log.stat().st_size
            if size != self._log_size:
                self._upload([layout.LOG])
                self._log_size = size

    def _upload(self, names: Iterable[str]) -> None:
        self._run_all(self._upload_file, names)

    def _upload_file(self, name: str) -> None:
        with (self._folder.path / name).open("rb") as file:
            self._objects.put(key(self._job_id, name), file)
        self._stored.add(name)
        self._record(name)

    def _record(self, name: str) -> None:
        if _split_page(name)[0]:
            self._transferred.add(name)

    def _run_all(self, transfer: Callable[[str], None], names: Iterable[str]) -> None:
        """Transfers files concurrently, and waits for all. Raises the first error."""
        for future in [self._pool.submit(transfer, name) for name in names]:
            future.result()

    def _names(self, folder: Path) -> Iterator[str]:
        """Yields the complete files in a local folder, relative to the job's folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield str(path.relative_to(self._folder.path))
