"""Receives uploads: streams them to disk, enforces limits, and has them checked.

`uploads.inspect` checks the files in a sandboxed child process, because they are untrusted. The
memory of this process does not grow with the size of an upload.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings
from ocr_tasks.model import JobInput
from ocr_tasks.options import JobOptions
from ocr_tasks.sandbox import forkserver
from ocr_tasks.storage import layout, store

#: Maximum length of a document's name.
NAME_LENGTH = 200

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the files of one request: their total size in bytes, and their number."""

    bytes: int
    files: int


class UploadFile(io.FileIO):
    """A file that is being uploaded. Writes are added to the size and the hash of the request."""

    def __init__(self, path: Path, incoming: Upload) -> None:
        super().__init__(path, "w+")
        self._incoming = incoming

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Writes a chunk of the upload."""
        self._incoming.count(data)
        with layout.storage_errors():
            view = memoryview(data)
            written = 0
            while written < len(view):
                written += super().write(view[written:])
        return written


@dataclass
class Upload:
    """The files of one request, in the order in which they are received.

    `names` are the client's names of the files, `size` their total number of bytes, and `digest`
    the SHA-256 of all bytes in this order.
    """

    folder: Path
    limits: Limits
    names: list[str] = field(default_factory=list)
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    #: Job id and fingerprint, if an earlier request has already created a job from the files.
    existing_job: tuple[str, str] | None = None

    _open: list[UploadFile] = field(default_factory=list)

    def open(self, untrusted_name: str) -> UploadFile:
        """Creates a file for the next upload. The client's name is kept only as a label."""
        path = self._next(untrusted_name)
        with layout.storage_errors():
            file = UploadFile(path, self)
        self._open.append(file)
        return file

    def link(self, path: Path, untrusted_name: str) -> None:
        """Adds a file of the same disk as a hard link."""
        target = self._next(untrusted_name)
        with layout.storage_errors():
            target.hardlink_to(path)
            with target.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    self.count(chunk)

    def _next(self, untrusted_name: str) -> Path:
        limit = self.limits.files
        if len(self.names) >= limit:
            raise errors.TooManyFiles(f"The request has more than {limit} files", limit=limit)
        self.names.append(untrusted_name)
        return self.path(len(self.names))

    @property
    def fingerprint(self) -> str:
        """A text that identifies the contents of the files and their number."""
        return (
            self.existing_job[1]
            if self.existing_job
            else f"{len(self.names)}:{self.digest.hexdigest()}"
        )

    def path(self, number: int) -> Path:
        """Returns the path of a file; `number` counts from 1."""
        return self.folder / f"upload-{number:05d}"

    def close(self) -> None:
        """Closes the files after the last write."""
        with layout.storage_errors():
            for file in self._open:
                file.close()

    def count(self, data: bytes | bytearray | memoryview) -> None:
        """Adds data to the size and the hash; raises UploadTooLarge above the limit."""
        limit = self.limits.bytes
        self.size += len(data)
        if self.size > limit:
            raise errors.UploadTooLarge(f"The upload is larger than {limit} bytes", limit=limit)
        self.digest.update(data)

    def discard(self) -> None:
        """Deletes the files, unless they were moved to a job's folder."""
        self.close()
        layout.delete_tree(self.folder)


@dataclass(frozen=True, slots=True)
class Received:
    """An accepted document, stored in the folder of a job that is not created yet."""

    job_id: str
    input: JobInput


def documents() -> Limits:
    """Returns the limits of the files of a document."""
    config = settings.get()
    return Limits(config.max_upload_bytes, config.max_files)


def start(content_length: int | None, limits: Limits | None = None) -> Upload:
    """Creates the folder for the files of a request.

    `content_length` is the size of the request body in bytes, if known. `limits` default to those
    of a document.
    """
    limits = limits or documents()
    limit = limits.bytes
    if content_length is not None and content_length > limit + 1024 * 1024:  # 1 MiB for the form
        raise errors.UploadTooLarge(f"The upload is larger than {limit} bytes", limit=limit)
    store.get().check_space(content_length or 0)
    return Upload(layout.new_upload(), limits)


def receive(incoming: Upload, options: JobOptions) -> Received:
    """Checks the files, and moves them as one PDF to the folder of a new job."""
    if incoming.existing_job:
        raise errors.UploadAlreadyUsed(
            f"The upload is already the job {incoming.existing_job[0]}",
            job=incoming.existing_job[0],
        )
    if not incoming.names:
        raise errors.MissingFile()
    incoming.close()
    result = _inspect(incoming, options)
    options.check_pages(result["pages"])
    job_id = layout.new_id()
    store.get().adopt(incoming.folder, job_id)
    return Received(
        job_id,
        JobInput(
            name=label(incoming.names),
            files=len(incoming.names),
            bytes=incoming.size,
            pages=result["pages"],
            media_type=result["media_type"],
            sha256=incoming.digest.hexdigest(),
            warnings=tuple(result["warnings"]),
        ),
    )


def label(untrusted_names: list[str]) -> str:
    """Returns a name for display and as the suggested name of downloads; never used as a path."""
    name = unicodedata.normalize("NFC", untrusted_names[0]).replace("\\", "/").rpartition("/")[2]
    # Removes control and formatting characters, e.g. those that change the text direction.
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").strip(" .")
    if len(name) > NAME_LENGTH:
        stem, dot, ending = name.rpartition(".")
        keep = dot + ending if stem and len(ending) <= 8 else ""
        name = name[: NAME_LENGTH - len(keep)] + keep
    return name or "document"


def _inspect(incoming: Upload, options: JobOptions) -> dict[str, Any]:
    config = settings.get()
    order = {
        "files": len(incoming.names),
        "image_dpi": options.image_dpi,
        "allow_signed": options.allow_signed,
        "max_pages": config.max_pages,
        "max_page_inches": config.max_page_inches,
        "max_image_megapixels": config.max_image_megapixels,
    }
    response = forkserver.check(order, incoming.folder, config.max_upload_bytes * 4)
    if "code" in response:
        count = len(incoming.names)
        where = "" if count == 1 else f"File {response['file']} of {count}: "
        raise errors.by_code()[str(response["code"])](f"{where}{response['detail']}")
    return response
