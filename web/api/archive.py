"""/v1/archive: results of several jobs in one ZIP file, which is created while it is sent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import Field

from ocr_tasks import errors
from ocr_tasks.formats import zipping
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Artifact, Job
from ocr_tasks.storage import layout, store
from web.access import authentication
from web.http import downloads
from web.http.schemas import ProblemBody, Query

blueprint = APIBlueprint(
    "archive",
    __name__,
    abp_tags=[Tag(name="Jobs", description="OCR of documents")],
    abp_responses={"default": ProblemBody},
)

#: A URL with this many ids fits into the request line that gunicorn and proxies accept, 4094 bytes.
MAX_JOBS = 100

#: Artifacts that are already compressed.
_STORED = frozenset({"pdf"})

#: Characters that some operating system does not allow in file names.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_MAX_NAME_BYTES = 200


class ArchiveQuery(Query):
    id: list[str] = Field(
        min_length=1, max_length=MAX_JOBS, description="Id of a job; repeat for each job."
    )
    artifact: list[Literal["pdf", "text", "hocr", "alto", "json"]] = Field(
        ["pdf"], max_length=5, description="Result to include; repeat for each."
    )


@blueprint.get("/v1/archive")
def download(query: ArchiveQuery) -> Response:
    """Download results of several jobs as one ZIP.

    All jobs must have succeeded. Files are named after the uploads, with a number if a name occurs
    more than once.
    """
    sees = authentication.caller().sees
    found = [
        _result(job_id, name, sees)
        for job_id in dict.fromkeys(query.id)
        for name in dict.fromkeys(query.artifact)
    ]
    response = Response(zipping.stream(_members(found)), content_type="application/zip")
    response.headers["Content-Disposition"] = 'attachment; filename="documents.zip"'
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would buffer the whole file on disk
    return response


def _result(job_id: str, name: str, sees: str | None) -> tuple[Job, Artifact]:
    """Returns a job and one of its results. Errors contain the job's id."""
    try:
        job = lifecycle.read(job_id, sees)
        run, artifact = downloads.result(job, name)
        if not store.get().has(job.id, f"runs/{run}/"):
            raise errors.ResultGone()
    except errors.StateError as error:
        raise type(error)(f"{job_id[:100]}: {error.detail}", **error.extra, job=job_id) from error
    return job, artifact


def _members(found: Sequence[tuple[Job, Artifact]]) -> Iterator[zipping.Member]:
    used: set[str] = set()
    for job, artifact in found:
        yield zipping.Member(
            name=_unique_name(downloads.file_name(job, artifact.name), artifact.name, used),
            size=artifact.bytes,
            changed=job.ended_at or job.created_at,
            packed=artifact.name not in _STORED,
            chunks=_chunks(job, artifact),
        )


def _chunks(job: Job, artifact: Artifact) -> Iterator[bytes]:
    _, stored = downloads.open_result(job, artifact.name)  # opened only when it is sent
    yield from downloads.chunks(stored)


def _unique_name(name: str, kind: str, used: set[str]) -> str:
    """Returns a unique name (ignoring case) that is valid on all operating systems."""
    ending = layout.ARTIFACTS[kind][2]
    stem = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name.removesuffix(ending)))
    stem = stem.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    number, free = 1, stem + ending
    while free.casefold() in used:
        number += 1
        free = f"{stem} ({number}){ending}"
    used.add(free.casefold())
    return free
