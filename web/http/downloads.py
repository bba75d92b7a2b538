"""Sends files: with ranges, an ETag, a right name, and only what was made."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from flask import Response, request, send_file

from ocr_tasks import errors
from ocr_tasks.model import Artifact, Job, State
from ocr_tasks.storage import layout, store
from ocr_tasks.storage.store import Streamed

_PIECE_BYTES = 64 * 1024


def artifact(job: Job, name: str, download_name: str | None = None) -> Response:
    """A result of a job, to be saved under a name; without one it is that of the document."""
    found, stored = opened(job, name)
    return file(stored, found.media_type, download_name or file_name(job, name), found.sha256)


def opened(job: Job, name: str) -> tuple[Artifact, Path | Streamed]:
    """A result of a job, and where its bytes are."""
    run, found = result(job, name)
    return found, store.get().open_artifact(job.id, run, found)


def result(job: Job, name: str) -> tuple[str, Artifact]:
    """The run of a job that made a result, and the result."""
    if not job.state.final:
        raise errors.JobNotFinished(f"The job is {job.state}", state=job.state)
    if job.state is not State.SUCCEEDED or job.outcome is None:
        raise errors.JobWithoutResult(f"The job is {job.state}", state=job.state)
    found = next((row for row in job.outcome.artifacts if row.name == name), None)
    if found is None:
        raise errors.ArtifactNotFound()
    return job.outcome.run, found


def file_name(job: Job, name: str) -> str:
    """What a result is called on the client's side."""
    return f"{Path(job.input.name).stem or 'document'}{layout.ARTIFACTS[name][2]}"


def pieces(stored: Path | Streamed) -> Iterator[bytes]:
    """The bytes of a file of ours, a piece at a time."""
    if not isinstance(stored, Path):
        yield from stored.pieces(0, stored.size)
        return
    with stored.open("rb") as bytes_of_it:
        while piece := bytes_of_it.read(_PIECE_BYTES):
            yield piece


def file(
    stored: Path | Streamed, media_type: str, download_name: str | None, etag: str | bool
) -> Response:
    """A file of ours; without a name it is shown rather than saved."""
    try:
        response = send_file(
            # Of what is streamed only the headers are made here.
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
    response.headers["Content-Type"] = media_type  # Flask adds a charset, even a second one
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _stream(response: Response, stored: Streamed) -> None:
    """Has the bytes that are asked for sent from where they are, as they are read there."""
    response.content_length = stored.size
    response.make_conditional(request, accept_ranges=True, complete_length=stored.size)
    if response.status_code in (200, 206):
        asked = response.content_range
        start, stop = (asked.start, asked.stop) if asked else (0, stored.size)
        response.response = stored.pieces(start or 0, stop or 0)
