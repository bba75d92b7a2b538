"""Where files lie in the data folder of this host.

    uploads/<random>/            a request's files while it is looked into
    resumable/<id>/              a file that comes in pieces, see `resumable`
    jobs/<xx>/<id>/input.pdf     the document that is read
                   job.json      what the job was asked for, should Redis forget
                   end.json      how it ended, likewise
                   log.txt       OCRmyPDF's log
                   pages/000001/ what was read on a page, as soon as it was
                   work/<run>/   temporary files of a run
                   runs/<run>/   the results of a run; the run that was committed counts

All names are made here or from ids made by us; a client's file name is never part of a path. What
others may see appears by a rename, whole. Where a job's files last is known to `store` alone: in
this folder, or in a bucket; then this is where a process works on them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ocr_tasks import errors, settings
from ocr_tasks.model import Artifact
from ocr_tasks.storage import atomic

#: Names of a job's files in its folder or in the bucket. REQUEST is the job's record as it was
#: submitted, and END how it ended, from which a lost record is restored.
INPUT = "input.pdf"
LOG = "log.txt"
REQUEST = "job.json"
END = "end.json"
#: In a bucket: the state of each page by its number, as in the pages' `summary.json`.
SUMMARIES = "pages/summaries.json"

#: Names of a page's files, in `pages/<number>/`.
PAGE_WORDS = "page.json"
PAGE_PREVIEW = "preview.jpg"

#: Name of an artifact: file in a run's folder, media type, ending of the download's name.
ARTIFACTS = {
    "pdf": ("result.pdf", "application/pdf", ".pdf"),
    "text": ("result.txt", "text/plain; charset=utf-8", ".txt"),
    "hocr": ("result.hocr", "application/xhtml+xml", ".hocr"),
    "alto": ("result.alto.xml", "application/xml", ".alto.xml"),
    "json": ("result.json", "application/json", ".json"),
}

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def new_id() -> str:
    """A new id for a job or a run: 122 random bits."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Whether the text has the form of an id made by `new_id`."""
    return _ID.fullmatch(text) is not None


def _name(text: str) -> str:
    """The text, if it is the name of a file: what comes from Redis is not believed either."""
    if Path(text).name != text or text in ("", ".."):
        raise ValueError(f"not the name of a file: {text!r}")
    return text


@contextmanager
def failures() -> Iterator[None]:
    """Turns what the file system says into errors of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise errors.StorageFull() from error
        raise errors.StorageUnavailable(f"{type(error).__name__}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files of one job."""

    path: Path

    @property
    def input(self) -> Path:
        return self.path / INPUT

    @property
    def log(self) -> Path:
        return self.path / LOG

    @property
    def pages(self) -> Path:
        return self.path / "pages"

    def page(self, number: int) -> Path:
        """The folder of a page, counted from 1."""
        return self.pages / f"{number:06d}"

    def page_preview(self, number: int) -> Path:
        """The small image of a page, counted from 1."""
        return self.page(number) / PAGE_PREVIEW

    def page_words(self, number: int) -> bytes | None:
        """The words of a page as JSON (`formats.page`), None before it is read."""
        return _read_if_there(self.page(number) / PAGE_WORDS)

    def work(self, run: str) -> Path:
        return self.path / "work" / _name(run)

    def run(self, run: str) -> Path:
        return self.path / "runs" / _name(run)

    def artifact(self, run: str, name: str) -> Path:
        return self.run(run) / ARTIFACTS[name][0]


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def job(job_id: str) -> JobFolder:
    """The folder of a job; it may not exist."""
    if not is_id(job_id):
        raise ValueError(f"not a job id: {job_id!r}")
    return JobFolder(all_jobs() / job_id[:2] / job_id)


def folder_id() -> str:
    """An id of the data folder, the same for all who share it; made by whoever is first."""
    path = settings.get().data_dir / "folder.id"
    with failures():
        if not path.exists():
            atomic.create(path, new_id().encode())
        return path.read_text().strip()


def new_upload() -> Path:
    """An empty folder for the files of a request."""
    with failures():
        path = settings.get().data_dir / "uploads" / new_id()
        path.mkdir(parents=True)
        return path


def adopt(upload: Path, job_id: str) -> None:
    """Makes the folder of a request the folder of a job, and its document last."""
    target = job(job_id)
    with failures():
        target.path.parent.mkdir(parents=True, exist_ok=True)
        upload.rename(target.path)
        for path in (target.input, target.path, target.path.parent):
            atomic.fsync(path)


def discard(path: Path) -> None:
    """Deletes a folder or file of ours, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def size(path: Path) -> int:
    """The bytes that a folder or file takes on the disk."""
    total = 0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total


def all_jobs() -> Path:
    """The folder in which the folders of all jobs are."""
    return settings.get().data_dir / "jobs"


def folders() -> Iterator[Path]:
    """The folders of all jobs, one at a time."""
    with suppress(FileNotFoundError):
        for shelf in os.scandir(all_jobs()):
            with suppress(OSError):
                yield from (Path(row.path) for row in os.scandir(shelf.path) if is_id(row.name))


def uploads() -> Iterator[Path]:
    """The folders of requests that are being looked into, or were cut short."""
    with suppress(FileNotFoundError):
        yield from (Path(row.path) for row in os.scandir(settings.get().data_dir / "uploads"))


def age(path: Path) -> float:
    """Seconds since anything in a folder was last written; 0 if it is gone."""
    times = []
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            times.append(file.lstat().st_mtime)
    return time.time() - max(times) if times else 0.0


def delete(job_id: str) -> None:
    """Deletes all files of a job.

    First they are put aside, so that a worker which is just writing there cannot keep the folder.
    """
    path = job(job_id).path
    aside = settings.get().data_dir / "uploads" / new_id()
    with suppress(OSError):
        aside.parent.mkdir(exist_ok=True)
        path = path.rename(aside)
    discard(path)


def check_room(incoming: int = 0) -> None:
    """Makes sure that so many bytes fit and the reserve stays free."""
    config = settings.get()
    with failures():
        config.data_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(config.data_dir).free
    if free - incoming < config.reserve_bytes:
        raise errors.StorageFull(retry_after=60)


def check_writable() -> None:
    """Makes sure that files can be made in the data folder."""
    check_room()
    probe = settings.get().data_dir / f".probe-{uuid.uuid4().hex}"
    with failures():
        probe.write_bytes(b"")
        probe.unlink()


def write_artifact(folder: JobFolder, run: str, name: str, chunks: Iterable[bytes]) -> Artifact:
    """Writes a result, a piece at a time, and makes it last before it is spoken of."""
    path = folder.artifact(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Artifact(name, ARTIFACTS[name][1], size, digest.hexdigest())


def take_artifact(folder: JobFolder, run: str, name: str, file: Path) -> Artifact:
    """Makes a finished file a result, by a rename, and makes it last."""
    path = folder.artifact(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        os.fsync(stream.fileno())
        size = stream.tell()
    file.replace(path)
    return Artifact(name, ARTIFACTS[name][1], size, digest.hexdigest())


def check_artifact(path: Path, artifact: Artifact) -> None:
    """Checks a result's checksum; once per process, unless the file changes."""
    with failures():
        try:
            state = path.stat()
            found = _digest(path, state.st_ino, state.st_size, state.st_mtime_ns)
        except FileNotFoundError:
            raise errors.ResultGone() from None
    if found != artifact.sha256:
        raise errors.ResultCorrupt(f"{artifact.name} has another checksum than when it was made")


@lru_cache(maxsize=1024)
def _digest(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
