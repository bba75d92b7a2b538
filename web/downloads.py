"""Sends files: with ranges, an ETag, a right name, and only what was made."""

from __future__ import annotations

from pathlib import Path

from flask import Response, send_file

from ocr_tasks import errors, storage
from ocr_tasks.model import Job, State


def artifact(job: Job, name: str) -> Response:
    """A result of a job.

    Raises:
        errors.JobNotFinished, errors.JobWithoutResult, errors.ArtifactNotFound, errors.ResultGone
        errors.ResultCorrupt, errors.StorageUnavailable
    """
    if not job.state.final:
        raise errors.JobNotFinished(f"The job is {job.state}", state=job.state)
    if job.state is not State.SUCCEEDED or job.outcome is None:
        raise errors.JobWithoutResult(f"The job is {job.state}", state=job.state)
    found = next((row for row in job.outcome.artifacts if row.name == name), None)
    if found is None:
        raise errors.ArtifactNotFound()
    path = storage.job(job.id).artifact(job.outcome.run, name)
    storage.check_artifact(path, found)
    ending = storage.ARTIFACTS[name][2]
    download_name = f"{Path(job.input.name).stem or 'document'}{ending}"
    return file(path, found.media_type, download_name, found.sha256)


def file(path: Path, media_type: str, download_name: str | None, etag: str | bool) -> Response:
    """A file of ours; without a name it is shown rather than saved.

    Raises:
        errors.ResultGone: if it is not there.
    """
    try:
        response = send_file(
            path,
            mimetype=media_type,
            as_attachment=download_name is not None,
            download_name=download_name,
            etag=etag,
            conditional=True,
            max_age=0,
        )
    except FileNotFoundError:
        raise errors.ResultGone() from None
    response.headers["Content-Type"] = media_type  # Flask adds a charset, even a second one
    response.headers["Cache-Control"] = "private, no-cache"
    return response
