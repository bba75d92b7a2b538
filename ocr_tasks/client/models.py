"""Data classes for the server's responses. Unknown fields of newer servers are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

FINAL = frozenset({"succeeded", "failed", "cancelled"})

#: The results that a job can have, and the extensions of their files.
ENDINGS = {"pdf": ".pdf", "text": ".txt", "hocr": ".hocr", "alto": ".alto.xml", "json": ".json"}


@dataclass(frozen=True)
class _JsonData:
    """Base class for data created from a JSON object. Unknown fields are ignored."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Creates an instance from a JSON object."""
        return cls(**{row.name: data[row.name] for row in fields(cls) if row.name in data})


@dataclass(frozen=True)
class Progress(_JsonData):
    """The progress of a job. `percent` covers the whole job (0 to 100) and never decreases.

    `eta_seconds` is the estimated remaining time, or None if unknown.
    """

    pages_done: int = 0
    pages_total: int = 0
    percent: float = 0.0
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Input(_JsonData):
    """The uploaded files. `name` is that of the first, `sha256` covers all bytes in order."""

    name: str = ""
    files: int = 0
    bytes: int = 0
    pages: int = 0
    media_type: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Artifact(_JsonData):
    """A result of a job. `name` is `pdf`, `text`, `hocr`, `alto` or `json`."""

    name: str
    media_type: str = ""
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class FailedPage(_JsonData):
    """A page (1-based) on which OCR failed. It keeps its image in the PDF."""

    page: int
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class JobFailure(_JsonData):
    """Why a job failed or was cancelled. `advice` says what to do, `page` is None if unknown."""

    code: str
    message: str = ""
    advice: str = ""
    retryable: bool = False
    page: int | None = None

    def __str__(self) -> str:
        return join_sentences(self.message, self.advice)


@dataclass(frozen=True)
class Job:
    """A job: the OCR of one document.

    `state` is queued, running, succeeded, failed or cancelled. `stage` is the stage of a running
    job. `queue_position` is 1-based. `attempt` is the number of the run. The results are deleted at
    `expires_at`. `seconds` is the duration of each stage.
    """

    id: str
    state: str
    stage: str | None = None
    progress: Progress = field(default_factory=Progress)
    queue_position: int | None = None
    attempt: int = 1
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    owner: str = ""
    input: Input = field(default_factory=Input)
    options: Mapping[str, Any] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    failed_pages: tuple[FailedPage, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    error: JobFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether the state is final, unless the job is retried."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Creates a job from a JSON object."""
        known = {row.name: data[row.name] for row in fields(cls) if row.name in data}
        for name in ("created_at", "started_at", "ended_at", "expires_at"):
            known[name] = datetime.fromisoformat(data[name]) if data.get(name) else None
        return cls(
            **{
                **known,
                "progress": Progress.from_json(data.get("progress") or {}),
                "input": Input.from_json(data.get("input") or {}),
                "artifacts": tuple(map(Artifact.from_json, data.get("artifacts") or ())),
                "failed_pages": tuple(map(FailedPage.from_json, data.get("failed_pages") or ())),
                "warnings": tuple(data.get("warnings") or ()),
                "error": JobFailure.from_json(data["error"]) if data.get("error") else None,
            }
        )


@dataclass(frozen=True)
class Event:
    """A change of a job. Pass its `id` as `last_event_id` to resume after it."""

    id: str
    job: Job


def id_of(job: Job | str) -> str:
    """Returns the id of a job given as an object or as an id."""
    return job if isinstance(job, str) else job.id


def join_sentences(detail: str, advice: str) -> str:
    """Joins two sentences, and adds a missing period between them."""
    period = "" if not advice or detail.endswith((".", "!", "?")) else "."
    return f"{detail}{period} {advice}".strip()
