"""What goes over the wire: bodies, queries and paths. The OpenAPI document follows from them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from ocr_tasks import errors
from ocr_tasks.model import Job, State, WorkspacePages
from ocr_tasks.storage.layout import ARTIFACTS
from ocr_tasks.uploads.tus import Upload


def stamp(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


class Described(BaseModel):
    """A model whose schema is made once: flask-openapi3 asks for it at every route that has it."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See pydantic."""
        return cls._schema(*args, **kwargs)

    @classmethod
    @cache
    def _schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super().model_json_schema(*args, **kwargs)


class JobPath(Described):
    job_id: str = Field(description="Id of the job; also the id of its Celery task.")


class UploadPath(BaseModel):
    upload_id: str = Field(description="Id of the upload: the last part of its address.")


class PagePath(JobPath):
    page: int = Field(ge=1, description="Page, counted from 1.")


class ArtifactPath(JobPath):
    artifact: str = Field(description="One of: " + ", ".join(ARTIFACTS))


class Query(Described):
    """Parameters of a query. flask-openapi3 asks for their schema at every request as well."""


class ListQuery(Query):
    state: State | None = Field(None, description="Only jobs in this state.")
    limit: int = Field(50, ge=1, le=200, description="Jobs at most.")
    cursor: str | None = Field(
        None, max_length=200, description="From `next` of the answer before."
    )


class JobQuery(Query):
    wait: float = Field(
        0,
        ge=0,
        le=600,
        description="Seconds to wait for a change of the job (compared with If-None-Match where "
        "it is sent). The service may wait for less.",
    )


class InputBody(BaseModel):
    name: str = Field(description="Name of the (first) file, a label.")
    files: int = Field(description="Files that were sent.")
    bytes: int = Field(description="Their bytes in all.")
    pages: int
    media_type: str = Field(description="What the file is, by its content.")
    sha256: str = Field(description="Of all bytes in their order.")
    workspace: str | None = Field(
        None, description="Id of the OCR-D workspace whose images were read, instead of files."
    )

    @field_validator("workspace", mode="before")
    @classmethod
    def _id_of(cls, value: WorkspacePages | None) -> str | None:
        return value.id if value else None


class ProgressBody(BaseModel):
    pages_done: int
    pages_total: int
    percent: float = Field(description="0–100 over the whole job, never going back.")
    eta_seconds: float | None = Field(description="Seconds left, once that can be told.")
    updated_at: datetime | None


class ArtifactBody(BaseModel):
    name: str
    media_type: str
    bytes: int
    sha256: str
    href: str


class PageFailureBody(BaseModel):
    page: int
    code: str
    message: str


class ErrorBody(BaseModel):
    code: str
    message: str
    advice: str
    retryable: bool
    page: int | None


class DeliveryBody(BaseModel):
    event: str
    at: datetime | None
    status: int | None = Field(description="What the receiver answered.")
    reason: str = Field(description="Why there was no answer, or no request.")
    next_at: datetime | None = Field(description="When it will be tried again; null: never.")


class CallbackBody(BaseModel):
    url: str
    events: str
    deliveries: list[DeliveryBody] = Field(description="The last tries, the oldest first.")


class LinksBody(BaseModel):
    self: str
    events: str
    pages: str
    log: str
    cancel: str
    retry: str


class JobBody(Described):
    """A job."""

    id: str
    state: State
    stage: str | None = Field(description="queued, scanning, ocr, assembling, optimizing, storing")
    progress: ProgressBody
    queue_position: int | None = Field(description="1 is next; null unless it waits.")
    attempt: int = Field(description="Counts its runs: with each retry, and each lost worker.")
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="When its results will be deleted.")
    owner: str = Field(description="Id of the token it was sent with; empty if there was none.")
    input: InputBody
    options: dict[str, Any]
    artifacts: list[ArtifactBody]
    failed_pages: list[PageFailureBody]
    warnings: list[str]
    seconds: dict[str, float] = Field(description="What each stage took.")
    versions: dict[str, str]
    error: ErrorBody | None
    callback: CallbackBody | None = Field(description="Who is told of it, and how that went.")
    links: LinksBody

    @classmethod
    def of(cls, job: Job) -> JobBody:
        outcome, here = job.outcome, f"/v1/jobs/{job.id}"
        return cls.model_construct(
            id=job.id,
            state=job.state,
            stage=job.stage and job.stage.value,
            progress=_progress(job),
            queue_position=job.queue_position,
            attempt=job.attempt,
            created_at=stamp(job.created_at),
            started_at=stamp(job.started_at),
            ended_at=stamp(job.ended_at),
            expires_at=stamp(job.expires_at),
            owner=job.owner,
            input=InputBody.model_validate(job.input, from_attributes=True),
            options=job.options,
            artifacts=[
                ArtifactBody(
                    name=row.name,
                    media_type=row.media_type,
                    bytes=row.bytes,
                    sha256=row.sha256,
                    href=f"{here}/{row.name}",
                )
                for row in (outcome.artifacts if outcome else ())
            ],
            failed_pages=[
                PageFailureBody(page=row.page, code=row.code, message=row.message)
                for row in (outcome.failed_pages if outcome else ())
            ],
            warnings=list(outcome.warnings) if outcome else [],
            seconds=_seconds(job),
            versions=outcome.versions if outcome else {},
            error=_error(job),
            callback=_callback(job),
            links=LinksBody(
                self=here,
                **{name: f"{here}/{name}" for name in LinksBody.model_fields if name != "self"},
            ),
        )


def _progress(job: Job) -> ProgressBody:
    done = job.state is State.SUCCEEDED
    progress = job.progress
    return ProgressBody(
        pages_done=job.input.pages if done else progress.pages_done,
        pages_total=job.input.pages,
        percent=100.0 if done else progress.percent,
        eta_seconds=None if job.state.final else progress.eta_seconds,
        updated_at=stamp(progress.updated_at),
    )


def _seconds(job: Job) -> dict[str, float]:
    if job.outcome is None or job.started_at is None:
        return {}
    return {"queued": round(job.started_at - job.created_at, 3), **job.outcome.seconds}


def _callback(job: Job) -> CallbackBody | None:
    if job.callback is None:
        return None
    deliveries = [
        DeliveryBody(
            event=row["event"],
            at=stamp(row["at"]),
            status=row["status"],
            reason=row["reason"],
            next_at=stamp(row["next_at"]),
        )
        for row in job.callback.deliveries
    ]
    return CallbackBody(url=job.callback.url, events=job.callback.events, deliveries=deliveries)


def _error(job: Job) -> ErrorBody | None:
    failure = job.failure
    if failure is None:
        return None
    known = errors.by_code().get(failure.code)
    return ErrorBody(
        code=failure.code,
        message=failure.message,
        advice=known.advice if known else "",
        retryable=failure.retryable,
        page=failure.page,
    )


class JobListBody(BaseModel):
    jobs: list[JobBody]
    next: str | None = Field(description="Address of the jobs after these; null at the end.")


class PageBody(BaseModel):
    page: int
    state: Literal["waiting", "done", "kept", "failed"] = Field(
        description="kept: the page had text and stays as it was, or was not asked for."
    )
    confidence: float | None = Field(description="Mean confidence of the words, 0–1.")
    words: int | None
    worker: str | None = Field(description="Host, or container, that read the page.")


class PageListBody(BaseModel):
    pages: list[PageBody]


class LanguageBody(BaseModel):
    code: str
    name: str


class LanguageListBody(BaseModel):
    languages: list[LanguageBody]
    default: list[str]


class UploadBody(BaseModel):
    """A file that is sent in pieces."""

    id: str
    offset: int = Field(description="Bytes that are here; the next piece begins there.")
    length: int | None = Field(description="Bytes that it will have; null: not known yet.")
    complete: bool
    expires_at: datetime | None = Field(description="When it is deleted, if it is no job by then.")

    @classmethod
    def of(cls, upload: Upload) -> UploadBody:
        return cls(
            id=upload.id,
            offset=upload.offset,
            length=upload.length,
            complete=upload.offset == upload.length,
            expires_at=stamp(upload.expires),
        )


class ProblemBody(Described):
    """An error, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(description="Stable; see /docs for the list.")]
    advice: str
    retryable: bool
