"""The layout of the data folder of this host.

    uploads/<random>/            files of a request while they are checked
    resumable/<id>/              a resumable upload, see `uploads.tus`
    jobs/<xx>/<id>/input.pdf     the document to process
                   job.json      the request of the job, in case Redis loses its data
                   end.json      the end of the job, for the same purpose
                   log.txt       OCRmyPDF's log
                   pages/000001/ the results of a page, as soon as it is done
                   work/<run>/   temporary files of a run
                   runs/<run>/   the results of a run; only the committed run counts

All names are constants or ids created by this module; a client's file name is never part of a path.
Files that other processes may open appear atomically, by a rename. Only `store` knows where a job's
files are stored permanently: in this folder, or in a bucket. In the latter case, processes work on
copies in this folder.
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
PAGE_TOO_SLOW = "too-slow.json"
PAGE_PREVIEW = "preview.jpg"

#: For each artifact: the file in the run's folder, the media type, and the download's extension.
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
    """Returns a new id for a job or a run, with 122 random bits."""
    return str(uuid.uuid4())


def is_id(text: str) -> bool:
    """Returns whether the text has the form of an id created by `new_id`."""
    return _ID.fullmatch(text) is not None


def _name(text: str) -> str:
    """Returns the text if it is a file name, else raises ValueError. Data in Redis is untrusted."""
    if Path(text).name != text or text in ("", ".."):
        raise ValueError(f"not the name of a file: {text!r}")
    return text


@contextmanager
def storage_errors() -> Iterator[None]:
    """Converts errors of the file system to StorageFull or StorageUnavailable."""
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
        """Returns the folder of a page (1-based)."""
        return self.pages / f"{number:06d}"

    def page_preview(self, number: int) -> Path:
        """Returns the path of the preview image of a page (1-based)."""
        return self.page(number) / PAGE_PREVIEW

    def page_words(self, number: int) -> bytes | None:
        """Returns the text of a page as JSON (`formats.page`), or None if it is not done."""
        return _read_or_none(self.page(number) / PAGE_WORDS)

    def work(self, run: str) -> Path:
        return self.path / "work" / _name(run)

    def run(self, run: str) -> Path:
        return self.path / "runs" / _name(run)

    def artifact(self, run: str, name: str) -> Path:
        return self.run(run) / ARTIFACTS[name][0]


def _read_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def job(job_id: str) -> JobFolder:
    """Returns the folder of a job, which may not exist. ValueError if the id is invalid."""
    if not is_id(job_id):
        raise ValueError(f"not a job id: {job_id!r}")
    return JobFolder(all_jobs() / job_id[:2] / job_id)


def folder_id() -> str:
    """Returns the id of the data folder. The first process that shares it creates the id."""
    path = settings.get().data_dir / "folder.id"
    with storage_errors():
        if not path.exists():
            atomic.create(path, new_id().encode())
        return path.read_text().strip()


def new_upload() -> Path:
    """Creates an empty folder for the files of a request."""
    with storage_errors():
        path = settings.get().data_dir / "uploads" / new_id()
        path.mkdir(parents=True)
        return path


def adopt(upload: Path, job_id: str) -> None:
    """Turns the folder of a request into the folder of a job, and syncs it to disk."""
    target = job(job_id)
    with storage_errors():
        target.path.parent.mkdir(parents=True, exist_ok=True)
        upload.rename(target.path)
        for path in (target.input, target.path, target.path.parent):
            atomic.fsync(path)


def delete_tree(path: Path) -> None:
    """Deletes a folder or file if it exists. Errors are ignored."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def size(path: Path) -> int:
    """Returns the disk usage of a folder or file in bytes."""
    total = 0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            total += file.lstat().st_blocks * 512
    return total


def all_jobs() -> Path:
    """Returns the folder that contains the folders of all jobs."""
    return settings.get().data_dir / "jobs"


def folders() -> Iterator[Path]:
    """Yields the folders of all jobs."""
    with suppress(FileNotFoundError):
        for prefix in os.scandir(all_jobs()):
            with suppress(OSError):
                yield from (Path(row.path) for row in os.scandir(prefix.path) if is_id(row.name))


def uploads() -> Iterator[Path]:
    """Yields the folders of requests that are being checked or were interrupted."""
    with suppress(FileNotFoundError):
        yield from (Path(row.path) for row in os.scandir(settings.get().data_dir / "uploads"))


def age(path: Path) -> float:
    """Returns the seconds since anything in a folder was last written, 0 if it does not exist."""
    times = []
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            times.append(file.lstat().st_mtime)
    return time.time() - max(times) if times else 0.0


def delete(job_id: str) -> None:
    """Deletes all files of a job.

    The folder is moved first, so that a worker that is still writing to it cannot prevent that.
    """
    path = job(job_id).path
    trash = settings.get().data_dir / "uploads" / new_id()
    with suppress(OSError):
        trash.parent.mkdir(exist_ok=True)
        path = path.rename(trash)
    delete_tree(path)


def check_space(incoming: int = 0) -> None:
    """Raises StorageFull if `incoming` bytes would not leave the reserve free."""
    config = settings.get()
    with storage_errors():
        config.data_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(config.data_dir).free
    if free - incoming < config.reserve_bytes:
        raise errors.StorageFull(retry_after=60)


def check_writable() -> None:
    """Raises StorageFull or StorageUnavailable if files cannot be created in the data folder."""
    check_space()
    probe = settings.get().data_dir / f".probe-{uuid.uuid4().hex}"
    with storage_errors():
        probe.write_bytes(b"")
        probe.unlink()


def write_artifact(folder: JobFolder, run: str, name: str, chunks: Iterable[bytes]) -> Artifact:
    """Writes a result in chunks, and syncs it to disk."""
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


def adopt_artifact(folder: JobFolder, run: str, name: str, file: Path) -> Artifact:
    """Turns a finished file into a result by a rename, and syncs it to disk."""
    path = folder.artifact(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        os.fsync(stream.fileno())
        size = stream.tell()
    file.replace(path)
    return Artifact(name, ARTIFACTS[name][1], size, digest.hexdigest())


def check_artifact(path: Path, artifact: Artifact) -> None:
    """Verifies the checksum of a result. Unchanged files are read only once per process.

    Raises ResultGone or ResultCorrupt.
    """
    with storage_errors():
        try:
            status = path.stat()
            sha256 = _digest(path, status.st_ino, status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            raise errors.ResultGone() from None
    if sha256 != artifact.sha256:
        raise errors.ResultCorrupt(f"{artifact.name} does not match its recorded checksum")


@lru_cache(maxsize=1024)
def _digest(path: Path, inode: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
