"""File downloads with Range, ETag and file names."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from flask import Response, request, send_file

from ocr_tasks import errors
from ocr_tasks.model import Artifact, Job, State
from ocr_tasks.storage import layout, store
from ocr_tasks.storage.store import Streamed

_CHUNK_BYTES = 64 * 1024


def artifact(job: Job, name: str, download_name: str | None = None) -> Response:
    """Returns a response with a result of a job.

    Browsers save it as `download_name`, by default the name of the document.
    """
    found, stored = open_result(job, name)
    return file(stored, found.media_type, download_name or file_name(job, name), found.sha256)


def open_result(job: Job, name: str) -> tuple[Artifact, Path | Streamed]:
    """Returns a result of a job, and its stored content."""
    run, found = result(job, name)
    return found, store.get().open_artifact(job.id, run, found)


def result(job: Job, name: str) -> tuple[str, Artifact]:
    """Returns the run id and the artifact of a result of a job.

    Raises `JobNotFinished`, `JobWithoutResult` or `ArtifactNotFound`.
    """
    if not job.state.final:
        raise errors.JobNotFinished(f"The job is {job.state}", state=job.state)
    if job.state is not State.SUCCEEDED or job.outcome is None:
        raise errors.JobWithoutResult(f"The job is {job.state}", state=job.state)
    found = next((row for row in job.outcome.artifacts if row.name == name), None)
    if found is None:
        raise errors.ArtifactNotFound()
    return job.outcome.run, found


def file_name(job: Job, name: str) -> str:
    """Returns the file name of a result for the client."""
    return f"{Path(job.input.name).stem or 'document'}{layout.ARTIFACTS[name][2]}"


def chunks(stored: Path | Streamed) -> Iterator[bytes]:
    """Yields the content of a stored file in chunks."""
    if not isinstance(stored, Path):
        yield from stored.chunks(0, stored.size)
        return
    with stored.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            yield chunk


def file(
    stored: Path | Streamed, media_type: str, download_name: str | None, etag: str | bool
) -> Response:
    """Returns a response with a stored file; browsers display it if there is no `download_name`."""
    if request.range and len(request.range.ranges) > 1:
        request.environ.pop("HTTP_RANGE")  # the whole file is sent (RFC 9110, section 14.2)
    try:
        response = send_file(
            # For a streamed file, only the headers are created here.
            stored if isinstance(stored, Path) else io.BytesIO(),
            mimetype=media_type,
            as_attachment=download_name is not None,
            download_name=download_name,
            etag=etag if isinstance(stored, Path) else stored.etag,
            last_modified=None if isinstance(stored, Path) else stored.changed,
            conditional=isinstance(stored, Path),
            max_age=0,
        )
    except FileNotFoundError:
        raise errors.ResultGone() from None
    if not isinstance(stored, Path):
        _stream(response, stored)
    if download_name:
        _name_for_old_clients(response, download_name)
    response.headers["Content-Type"] = media_type  # Flask would add a (second) charset
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _name_for_old_clients(response: Response, name: str) -> None:
    """Adds a name in ASCII if nothing but the ending of the name is ASCII, e.g. in Hebrew.

    The name itself is in `filename*` (RFC 6266, section 4.3).
    """
    if not Path(name).stem.isascii() and re.fullmatch(r"[\W_]*", _ascii(Path(name).stem)):
        names = {"filename": f"document{_ascii(Path(name).suffix)}", "filename*": _encoded(name)}
        response.headers.set("Content-Disposition", "attachment", **names)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _encoded(name: str) -> str:
    return f"UTF-8''{quote(name, safe='')}"


def _stream(response: Response, stored: Streamed) -> None:
    """Streams the requested range from the store as the body of the response."""
    response.content_length = stored.size
    response.make_conditional(request, accept_ranges=True, complete_length=stored.size)
    if response.status_code in (200, 206):
        content_range = response.content_range
        start, stop = (
            (content_range.start, content_range.stop) if content_range else (0, stored.size)
        )
        response.response = stored.chunks(start or 0, stop or 0)
