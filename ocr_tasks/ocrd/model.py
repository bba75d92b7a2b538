"""The words of OCR-D: a job of a processor, its states, a workflow, a workspace. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ocr_tasks import settings

#: The name of our own processor, which needs nothing else to be installed.
RECOGNIZE = settings.OWN_PROCESSOR

#: What a worker that runs Nextflow scripts offers, and the name of its queue.
NEXTFLOW = "nextflow"


class ProcessingState(StrEnum):
    """Where a job is, in OCR-D's words. CACHED: it waits for other jobs."""

    CACHED = "CACHED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNSET = "UNSET"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace: a METS file, and the files that it names beside it and below.

    `id` is '' for one that was not uploaded but lies in a folder of OCR_OCRD_FOLDERS. `key` tells
    workspaces apart, by the METS file's real path.
    """

    id: str
    mets: Path
    identifier: str = ""
    description: str = ""
    owner: str = ""
    created_at: float = 0.0

    @property
    def folder(self) -> Path:
        return self.mets.parent


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a processor that is asked for. `page_id` is in OCR-D's syntax, '' for all pages."""

    processor: str
    input_file_grps: tuple[str, ...]
    output_file_grps: tuple[str, ...] = ()
    page_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    description: str = ""
    result_queue_name: str = ""
    callback_url: str = ""


@dataclass(frozen=True, slots=True)
class ProcessorJob:
    """A job of a processor. The id is the Celery task id. Times are seconds since the epoch.

    `pages` are the ids of the pages that are meant, None for all; `workflow_job` is the id of the
    run of a workflow that it belongs to, or ''.
    """

    id: str
    state: ProcessingState
    run: Run
    path_to_mets: Path
    workspace_id: str
    owner: str
    created_at: float
    pages: tuple[str, ...] | None = None
    attempt: int = 1
    workflow_job: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    error_code: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a workflow, from 1. `processor` begins with `ocrd-`."""

    line: int
    processor: str
    input_file_grps: tuple[str, ...]
    output_file_grps: tuple[str, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowJob:
    """A run of a workflow. `jobs` are the ids of its jobs, in their order, by page ('' for all)."""

    id: str
    path_to_mets: Path
    workspace_id: str
    owner: str
    page_id: str
    page_wise: bool
    jobs: dict[str, list[str]]
    created_at: float
    description: str = ""
    callback_url: str = ""
