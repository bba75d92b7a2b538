"""/v1/archive: results of several jobs in one ZIP file, packed while it is sent."""

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
    abp_tags=[Tag(name="Jobs", description="Documents that are read")],
    abp_responses={"default": ProblemBody},
)

#: An address of so many ids fits into what gunicorn and proxies take for a line, 4094 bytes.
MOST_JOBS = 100

#: What is compressed already.
_STORED = frozenset({"pdf"})

#: What some system does not have in the name of a file.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_MOST_BYTES_OF_A_NAME = 200


class ArchiveQuery(Query):
    id: list[str] = Field(
        min_length=1, max_length=MOST_JOBS, description="Id of a job; once for each job."
    )
    artifact: list[Literal["pdf", "text", "hocr", "alto", "json"]] = Field(
        ["pdf"], max_length=5, description="A result to be in it; once for each kind."
    )


@blueprint.get("/v1/archive")
def download(query: ArchiveQuery) -> Response:
    """Fetch results of several jobs as one ZIP.

    All of the jobs must have succeeded. Files are named like those that were sent, with a number
    where a name comes twice.
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
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep all of it on its disk
    return response


def _result(job_id: str, name: str, sees: str | None) -> tuple[Job, Artifact]:
    """A result with its job; errors say which job it is."""
    try:
        job = lifecycle.read(job_id, sees)
        run, artifact = downloads.result(job, name)
        if not store.get().has(job.id, f"runs/{run}/"):
            raise errors.ResultGone()
    except errors.StateError as error:
        raise type(error)(f"{job_id[:100]}: {error.detail}", **error.extra, job=job_id) from error
    return job, artifact


def _members(found: Sequence[tuple[Job, Artifact]]) -> Iterator[zipping.Member]:
    taken: set[str] = set()
    for job, artifact in found:
        yield zipping.Member(
            name=_free(downloads.file_name(job, artifact.name), artifact.name, taken),
            size=artifact.bytes,
            changed=job.ended_at or job.created_at,
            packed=artifact.name not in _STORED,
            pieces=_pieces(job, artifact),
        )


def _pieces(job: Job, artifact: Artifact) -> Iterator[bytes]:
    _, stored = downloads.opened(job, artifact.name)  # when its turn has come
    yield from downloads.pieces(stored)


def _free(name: str, kind: str, taken: set[str]) -> str:
    """The name, safe on any system, with a number if another file has it, in upper case or not."""
    ending = layout.ARTIFACTS[kind][2]
    stem = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name.removesuffix(ending)))
    stem = stem.encode()[:_MOST_BYTES_OF_A_NAME].decode(errors="ignore")
    number, free = 1, stem + ending
    while free.casefold() in taken:
        number += 1
        free = f"{stem} ({number}){ending}"
    taken.add(free.casefold())
    return free
