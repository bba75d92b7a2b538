"""The words of the house: a job, its states and stages. Data only, no input or output."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job is in its life. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Stage(StrEnum):
    """Where a running job is in its work, in this order."""

    QUEUED = "queued"
    SCANNING = "scanning"
    OCR = "ocr"
    ASSEMBLING = "assembling"
    OPTIMIZING = "optimizing"
    STORING = "storing"

    @property
    def rank(self) -> int:
        return list(Stage).index(self)


#: Celery's name of each state, as `AsyncResult(id).state` shows it, and ours.
CELERY_STATES = {
    "QUEUED": State.QUEUED,
    "PROGRESS": State.RUNNING,
    "SUCCESS": State.SUCCEEDED,
    "FAILURE": State.FAILED,
    "REVOKED": State.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class WorkspacePages:
    """Pages of an OCR-D workspace, by their ids; `group` has their images, '' for the first."""

    id: str
    group: str
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobInput:
    """What was handed in.

    `name` is the client's name of the file, a label and never a path. `pages` counts from the PDF
    that will be read. `sha256` is over all uploaded bytes in their order. `workspace` says what it
    was made of, if not of files.
    """

    name: str
    files: int
    bytes: int
    pages: int
    media_type: str
    sha256: str
    workspace: WorkspacePages | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> JobInput:
        found = data.get("workspace")
        pages = found and WorkspacePages(**{**found, "pages": tuple(found["pages"])})
        return cls(**{**data, "workspace": pages})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is: the meta of `update_state`. Times are seconds since the epoch.

    `pages_done` of `pages_total` pages went through the present stage `ocr` (all of them after it);
    `percent` is over the whole job, 0–100, and never goes back.
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
    """A page that could not be read, counted from 1, and why."""

    page: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job that succeeded leaves behind. `seconds` are by stage; `run` names its results."""

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
    """Why a job failed or was cancelled; `page` where it is known, counted from 1."""

    code: str
    message: str
    retryable: bool
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """Who wants to be told of a job: of its `end`, or of all its `stages`.

    `deliveries` are the last tries, as `webhooks` notes them.
    """

    url: str
    events: str
    deliveries: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One document to be read. The id is the Celery task id. Times are seconds since the epoch.

    `revision` grows by one with every change; `attempt` counts the runs; `owner` is the id of the
    token that sent it, '' where none is needed; `queue_position` counts from 1, and is None unless
    the job waits. Its results are deleted at `expires_at`, if that is not None.
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
        """The stage, or None when the job has ended."""
        if self.state.final:
            return None
        return Stage.QUEUED if self.state is State.QUEUED else self.progress.stage

    @property
    def retryable(self) -> bool:
        """Whether running it again could give something new."""
        if self.state is State.SUCCEEDED:
            return bool(self.outcome and self.outcome.failed_pages)
        return self.state.final


@dataclass(frozen=True, slots=True)
class JobList:
    """Some jobs, newest first, and the cursor of the ones after them (None at the end)."""

    jobs: list[Job]
    next_cursor: str | None


class Scope(StrEnum):
    """What a token may do. `admin` may do everything, with the jobs of everybody."""

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"
    SWARM = "swarm"
    OCRD = "ocrd"


#: What a client sends: `ocrt_`, the token's id, and its secret.
TOKEN_TEXT = re.compile(r"ocrt_([0-9a-f]{12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token without its secret. Times are seconds since the epoch, None for never.

    `limits` are its own; where one is missing, that of the settings holds.
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
    """What a living worker says of itself every few seconds.

    `busy` of its processes are at work. `folder` is the id of its data folder where jobs are kept
    in a bucket, '' where all have the same one.
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
        """Whether it runs OCR on documents; one that names no languages only runs processors."""
        return bool(self.languages) or not self.processors
