"""What the server tells of jobs, as data. What a newer server tells beyond that is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

FINAL = frozenset({"succeeded", "failed", "cancelled"})

#: The results that a job can have, and how the names of their files end.
ENDINGS = {"pdf": ".pdf", "text": ".txt", "hocr": ".hocr", "alto": ".alto.xml", "json": ".json"}


@dataclass(frozen=True)
class _Told:
    """Data that is made of a JSON object, of which only what is known is taken."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """The data of a JSON object."""
        return cls(**{row.name: told[row.name] for row in fields(cls) if row.name in told})


@dataclass(frozen=True)
class Progress(_Told):
    """How far a job is. `percent` is over the whole job, 0–100, and never goes back.

    `eta_seconds` are left, as far as that can be told.
    """

    pages_done: int = 0
    pages_total: int = 0
    percent: float = 0.0
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Input(_Told):
    """What was sent. `name` is the first file's, `sha256` is over all bytes in their order."""

    name: str = ""
    files: int = 0
    bytes: int = 0
    pages: int = 0
    media_type: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Artifact(_Told):
    """A result: its name is `pdf`, `text`, `hocr`, `alto` or `json`."""

    name: str
    media_type: str = ""
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class FailedPage(_Told):
    """A page, counted from 1, that could not be read and keeps its image."""

    page: int
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class JobFailure(_Told):
    """Why a job failed or was cancelled; `advice` says what to do, `page` where it is known."""

    code: str
    message: str = ""
    advice: str = ""
    retryable: bool = False
    page: int | None = None

    def __str__(self) -> str:
        return sentences(self.message, self.advice)


@dataclass(frozen=True)
class Job:
    """A document that is read.

    `state` is queued, running, succeeded, failed or cancelled; `stage` where a running job is in
    its work. `queue_position` is 1 for the next one. `attempt` counts the runs. `expires_at` is
    when its results will be deleted. `seconds` are what each stage took.
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
        """Whether nothing will change any more, unless it is run again."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Job:
        """The job of a JSON object."""
        known = {row.name: told[row.name] for row in fields(cls) if row.name in told}
        for name in ("created_at", "started_at", "ended_at", "expires_at"):
            known[name] = datetime.fromisoformat(told[name]) if told.get(name) else None
        return cls(
            **{
                **known,
                "progress": Progress.from_json(told.get("progress") or {}),
                "input": Input.from_json(told.get("input") or {}),
                "artifacts": tuple(map(Artifact.from_json, told.get("artifacts") or ())),
                "failed_pages": tuple(map(FailedPage.from_json, told.get("failed_pages") or ())),
                "warnings": tuple(told.get("warnings") or ()),
                "error": JobFailure.from_json(told["error"]) if told.get("error") else None,
            }
        )


@dataclass(frozen=True)
class Event:
    """A change of a job. Whoever has seen it goes on after it by its `id`."""

    id: str
    job: Job


def id_of(job: Job | str) -> str:
    """The id of a job that is given as such, or by its id."""
    return job if isinstance(job, str) else job.id


def sentences(what: str, advice: str) -> str:
    """What happened and what to do, as text."""
    end = "" if not advice or what.endswith((".", "!", "?")) else "."
    return f"{what}{end} {advice}".strip()
