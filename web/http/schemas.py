"""Models of requests and responses, from which the OpenAPI document is generated."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from ocr_tasks import errors
from ocr_tasks.model import Job, State, WorkspacePages
from ocr_tasks.storage.layout import ARTIFACTS
from ocr_tasks.uploads.tus import ResumableUpload


def stamp(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


class Described(BaseModel):
    """A model with a cached JSON schema, which flask-openapi3 requests for each route."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the cached JSON schema."""
        return cls._schema(*args, **kwargs)

    @classmethod
    @cache
    def _schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return super().model_json_schema(*args, **kwargs)


class JobPath(Described):
    job_id: str = Field(description="Id of the job, which is also the id of its Celery task.")


class UploadPath(BaseModel):
    upload_id: str = Field(description="Id of the upload, the last segment of its URL.")


class PagePath(JobPath):
    page: int = Field(ge=1, description="Page number, starting at 1.")


class ArtifactPath(JobPath):
    artifact: str = Field(description="One of: " + ", ".join(ARTIFACTS))


class Query(Described):
    """Query parameters. flask-openapi3 requests their schema for each request, too."""


class ListQuery(Query):
    state: State | None = Field(None, description="Only jobs in this state.")
    limit: int = Field(50, ge=1, le=200, description="Maximum number of jobs.")
    cursor: str | None = Field(
        None, max_length=200, description="Cursor from `next` of the previous response."
    )


class JobQuery(Query):
    wait: float = Field(
        0,
        ge=0,
        le=600,
        description="Seconds to wait for a change of the job (compared to If-None-Match, if "
        "sent). The service may respond earlier.",
    )


class InputBody(BaseModel):
    name: str = Field(description="Name of the (first) file.")
    files: int = Field(description="Number of uploaded files.")
    bytes: int = Field(description="Total size of the files.")
    pages: int
    media_type: str = Field(description="Media type, detected from the content.")
    sha256: str = Field(description="Checksum of all files in their order.")
    workspace: str | None = Field(
        None, description="Id of the OCR-D workspace whose images were processed."
    )

    @field_validator("workspace", mode="before")
    @classmethod
    def _id_of(cls, value: WorkspacePages | None) -> str | None:
        return value.id if value else None


class ProgressBody(BaseModel):
    pages_done: int
    pages_total: int
    percent: float = Field(description="0–100 for the whole job; never decreases.")
    eta_seconds: float | None = Field(description="Estimated seconds left; null: not known yet.")
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
    status: int | None = Field(description="HTTP status of the receiver's response.")
    reason: str = Field(description="Why there was no response, or no request.")
    next_at: datetime | None = Field(description="Time of the next attempt; null: none.")


class CallbackBody(BaseModel):
    url: str
    events: str
    deliveries: list[DeliveryBody] = Field(description="The last attempts, oldest first.")


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
    queue_position: int | None = Field(description="1 is next; null unless the job is queued.")
    attempt: int = Field(description="Number of runs, including retries and lost workers.")
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="Time when the job is deleted.")
    owner: str = Field(description="Id of the token that submitted the job; empty without one.")
    input: InputBody
    options: dict[str, Any]
    artifacts: list[ArtifactBody]
    failed_pages: list[PageFailureBody]
    warnings: list[str]
    seconds: dict[str, float] = Field(description="Duration of each stage.")
    versions: dict[str, str]
    error: ErrorBody | None
    callback: CallbackBody | None = Field(description="The webhook and its deliveries.")
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
            warnings=list(job.warnings),
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
    next: str | None = Field(description="URL of the next page of the list; null: none.")


class PageBody(BaseModel):
    page: int
    state: Literal["waiting", "done", "kept", "failed"] = Field(
        description="`kept`: the page already had text, or was not selected."
    )
    confidence: float | None = Field(description="Mean confidence of the words, 0–1.")
    words: int | None
    worker: str | None = Field(description="Host or container that processed the page.")


class PageListBody(BaseModel):
    pages: list[PageBody]


class LanguageBody(BaseModel):
    code: str
    name: str


class LanguageListBody(BaseModel):
    languages: list[LanguageBody]
    default: list[str]


class UploadBody(BaseModel):
    """A resumable upload."""

    id: str
    offset: int = Field(description="Number of stored bytes; the next chunk starts here.")
    length: int | None = Field(description="Size of the file in bytes; null: not known yet.")
    complete: bool
    expires_at: datetime | None = Field(description="Time when an unused upload is deleted.")

    @classmethod
    def of(cls, upload: ResumableUpload) -> UploadBody:
        return cls(
            id=upload.id,
            offset=upload.offset,
            length=upload.length,
            complete=upload.offset == upload.length,
            expires_at=stamp(upload.expires),
        )


class ProblemBody(Described):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(description="Stable error code; /docs lists all.")]
    advice: str
    retryable: bool
