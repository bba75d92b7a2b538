"""Data classes for jobs, tokens and workers, and the states and stages of a job. No I/O."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The state of a job. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Stage(StrEnum):
    """The stage of a running job, in order."""

    QUEUED = "queued"
    SCANNING = "scanning"
    OCR = "ocr"
    ASSEMBLING = "assembling"
    OPTIMIZING = "optimizing"
    STORING = "storing"

    @property
    def rank(self) -> int:
        return list(Stage).index(self)


#: Maps Celery's state names, which `AsyncResult(id).state` returns, to ours.
CELERY_STATES = {
    "QUEUED": State.QUEUED,
    "PROGRESS": State.RUNNING,
    "SUCCESS": State.SUCCEEDED,
    "FAILURE": State.FAILED,
    "REVOKED": State.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class WorkspacePages:
    """Pages of an OCR-D workspace, by their ids.

    `group` is the file group with their images, '' for the first file group.
    """

    id: str
    group: str
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobInput:
    """The input of a job.

    `name` is the client's file name, which is only a label and never a path. `pages` is the number
    of pages of the PDF that is processed. `sha256` covers all uploaded bytes in order. `workspace`
    is set if the input comes from a workspace instead of uploaded files. `warnings` say what was
    lost when the files were merged.
    """

    name: str
    files: int
    bytes: int
    pages: int
    media_type: str
    sha256: str
    workspace: WorkspacePages | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JobInput:
        row = data.get("workspace")
        pages = row and WorkspacePages(**{**row, "pages": tuple(row["pages"])})
        warnings = tuple(data.get("warnings", ()))
        return cls(**{**data, "workspace": pages, "warnings": warnings})


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a running job: the meta of `update_state`. Times are seconds since the epoch.

    `pages_done` is the number of pages that have finished the stage `ocr`. `percent` covers the
    whole job (0 to 100) and never decreases. `eta_seconds` is the estimated remaining time.
    """

    stage: Stage = Stage.QUEUED
    pages_done: int = 0
    pages_total: int = 0
    percent: float = 0.0
    eta_seconds: float | None = None
    started_at: float | None = None
    updated_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Progress:
        return cls(**{**data, "stage": Stage(data["stage"])})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A result of a job: `pdf`, `text`, `hocr`, `alto` or `json`."""

    name: str
    media_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PageFailure:
    """A page on which OCR failed (1-based), and why."""

    page: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a job that succeeded.

    `seconds` maps each stage to its duration. `run` is the id of the run whose results these are.
    """

    run: str
    artifacts: tuple[Artifact, ...]
    pages: int
    seconds: dict[str, float]
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()
    failed_pages: tuple[PageFailure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        return cls(
            **{
                **data,
                "artifacts": tuple(Artifact(**row) for row in data["artifacts"]),
                "failed_pages": tuple(PageFailure(**row) for row in data["failed_pages"]),
                "warnings": tuple(data["warnings"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed or was cancelled. `page` is 1-based, or None if unknown."""

    code: str
    message: str
    retryable: bool
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """The webhook of a job. `events` is `end` (only the end of the job) or `stages` (every stage).

    `deliveries` are the latest delivery attempts, as `webhooks` records them.
    """

    url: str
    events: str
    deliveries: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """The OCR of one document. The id is the Celery task id. Times are seconds since the epoch.

    `revision` increases by one with every change. `attempt` is the number of the run. `owner` is
    the id of the token that submitted the job, '' if tokens are not required. `queue_position` is
    1-based, and None unless the job is queued. The results are deleted at `expires_at`, unless it
    is None.
    """

    id: str
    state: State
    revision: int
    attempt: int
    created_at: float
    input: JobInput
    options: dict[str, Any]
    progress: Progress
    owner: str = ""
    callback: Callback | None = None
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    queue_position: int | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage, or None if the job has ended."""
        if self.state.final:
            return None
        return Stage.QUEUED if self.state is State.QUEUED else self.progress.stage

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings about the input and the result."""
        return (*self.input.warnings, *(self.outcome.warnings if self.outcome else ()))

    @property
    def retryable(self) -> bool:
        """Whether another run could change the result."""
        if self.state is State.SUCCEEDED:
            return bool(self.outcome and self.outcome.failed_pages)
        return self.state.final


@dataclass(frozen=True, slots=True)
class JobList:
    """A page of a list of jobs, newest first. `next_cursor` is None on the last page."""

    jobs: list[Job]
    next_cursor: str | None


class Scope(StrEnum):
    """A permission of a token. `admin` includes all others, for the jobs of all owners."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"
    SWARM = "swarm"
    OCRD = "ocrd"


#: A token as clients send it: `ocrt_`, the token's id, and its secret.
TOKEN_TEXT = re.compile(r"ocrt_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token without its secret. Times are seconds since the epoch, None for never.

    `limits` override the limits in the settings.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    limits: dict[str, int]
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker reports about itself every few seconds.

    `busy` is the number of its processes that are working on a job. `folder` is the id of the
    worker's data folder if jobs are stored in a bucket, '' if all workers share one folder.
    """

    name: str
    processes: int
    busy: int = field(default=0, kw_only=True)
    languages: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    processors: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    @property
    def takes_documents(self) -> bool:
        """Whether it processes documents. A worker without languages only runs processors."""
        return bool(self.languages) or not self.processors
