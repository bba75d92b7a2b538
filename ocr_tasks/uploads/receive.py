"""Takes an upload in: streams it to storage, keeps the limits, has it looked into.

The looking is done by `triage` in a child process with limits of its own, as every upload is
hostile. Memory here does not grow with the size of an upload.
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

NAME_LENGTH = 200

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What the files of one request may be at most."""

    bytes: int
    files: int


class UploadFile(io.FileIO):
    """A file that is being uploaded; counts and hashes what is written."""

    def __init__(self, path: Path, incoming: Incoming) -> None:
        super().__init__(path, "w+")
        self._incoming = incoming

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Writes a piece of the upload."""
        self._incoming.count(data)
        with layout.failures():
            view = memoryview(data)
            written = 0
            while written < len(view):
                written += super().write(view[written:])
        return written


@dataclass
class Incoming:
    """The files of one request, in the order in which they come."""

    folder: Path
    limits: Limits
    names: list[str] = field(default_factory=list)
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    #: Of files that an earlier request has made a job of: its id, and what they were known by.
    taken: tuple[str, str] | None = None

    _open: list[UploadFile] = field(default_factory=list)

    def open(self, untrusted_name: str) -> UploadFile:
        """A new file to write an upload to; the client's name is kept as a label only."""
        path = self._next(untrusted_name)
        with layout.failures():
            file = UploadFile(path, self)
        self._open.append(file)
        return file

    def link(self, path: Path, untrusted_name: str) -> None:
        """Takes a file of this disk without copying it; it stays where it is, too."""
        target = self._next(untrusted_name)
        with layout.failures():
            target.hardlink_to(path)
            with target.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    self.count(piece)

    def _next(self, untrusted_name: str) -> Path:
        limit = self.limits.files
        if len(self.names) >= limit:
            raise errors.TooManyFiles(f"more than {limit} files", limit=limit)
        self.names.append(untrusted_name)
        return self.path(len(self.names))

    @property
    def fingerprint(self) -> str:
        """What tells these files from others."""
        return self.taken[1] if self.taken else f"{len(self.names)}:{self.digest.hexdigest()}"

    def path(self, number: int) -> Path:
        """Where the file of this number, from 1, lies."""
        return self.folder / f"upload-{number:05d}"

    def close(self) -> None:
        """Closes the files: nothing more will be written."""
        with layout.failures():
            for file in self._open:
                file.close()

    def count(self, data: bytes | bytearray | memoryview) -> None:
        limit = self.limits.bytes
        self.size += len(data)
        if self.size > limit:
            raise errors.UploadTooLarge(f"more than {limit} bytes", limit=limit)
        self.digest.update(data)

    def discard(self) -> None:
        """Deletes the files, if no job has taken them over."""
        self.close()
        layout.discard(self.folder)


@dataclass(frozen=True, slots=True)
class Received:
    """A document that lies in the folder of a job to be."""

    job_id: str
    input: JobInput


def documents() -> Limits:
    """What the files of a document may be at most."""
    config = settings.get()
    return Limits(config.max_upload_bytes, config.max_files)


def begin(content_length: int | None, limits: Limits | None = None) -> Incoming:
    """Prepares for the files of a request of so many bytes, where that is known.

    Without limits of their own they are those of a document.
    """
    limits = limits or documents()
    limit = limits.bytes
    if content_length is not None and content_length > limit + 1024 * 1024:  # room for the form
        raise errors.UploadTooLarge(f"more than {limit} bytes", limit=limit)
    store.get().check_room(content_length or 0)
    return Incoming(layout.new_upload(), limits)


def receive(incoming: Incoming, options: JobOptions) -> Received:
    """Looks into the files and makes them one PDF in the folder of a job to be."""
    if incoming.taken:
        raise errors.UploadTaken(f"It became the job {incoming.taken[0]}", job=incoming.taken[0])
    if not incoming.names:
        raise errors.MissingFile()
    incoming.close()
    found = _triage(incoming, options)
    options.check_pages(found["pages"])
    job_id = layout.new_id()
    store.get().adopt(incoming.folder, job_id)
    return Received(
        job_id,
        JobInput(
            name=label(incoming.names),
            files=len(incoming.names),
            bytes=incoming.size,
            pages=found["pages"],
            media_type=found["media_type"],
            sha256=incoming.digest.hexdigest(),
        ),
    )


def label(untrusted_names: list[str]) -> str:
    """A name that is fit to be shown and offered for download, and never used as a path."""
    name = unicodedata.normalize("NFC", untrusted_names[0]).replace("\\", "/").rpartition("/")[2]
    # Control and formatting characters (also those that turn the direction of writing) go.
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C").strip(" .")
    if len(name) > NAME_LENGTH:
        stem, dot, ending = name.rpartition(".")
        keep = dot + ending if stem and len(ending) <= 8 else ""
        name = name[: NAME_LENGTH - len(keep)] + keep
    return name or "document"


def _triage(incoming: Incoming, options: JobOptions) -> dict[str, Any]:
    config = settings.get()
    order = {
        "data_dir": str(config.data_dir),
        "confine": config.confine,
        "files": len(incoming.names),
        "image_dpi": options.image_dpi,
        "allow_signed": options.allow_signed,
        "max_pages": config.max_pages,
        "max_page_inches": config.max_page_inches,
        "max_image_megapixels": config.max_image_megapixels,
        "seconds": config.check_seconds,
        "memory_bytes": config.check_memory_bytes,
        "file_bytes": config.max_upload_bytes * 4,
    }
    answer = forkserver.look(order, incoming.folder, config.check_seconds)
    if "code" in answer:
        count = len(incoming.names)
        where = "" if count == 1 else f"File {answer['file']} of {count}: "
        raise errors.by_code()[str(answer["code"])](f"{where}{answer['detail']}")
    return answer
