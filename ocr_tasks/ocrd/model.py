"""OCR-D's data model: processor jobs and their states, workflows, workspaces. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

#: The built-in processor, which is always installed.
RECOGNIZE = "ocrd-ocr-tasks-recognize"

#: The processor of workers that run Nextflow scripts, and the name of its queue.
NEXTFLOW = "nextflow"


class ProcessingState(StrEnum):
    """The state of a job in OCR-D's terms. CACHED: it waits for other jobs."""

    CACHED = "CACHED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNSET = "UNSET"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace: a METS file, and the files next to it and below that it references.

    `id` is '' if the workspace was not uploaded but is in a folder of OCR_OCRD_FOLDERS. The key of
    a workspace is `workspaces.key`.
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
    """A requested run of a processor. `page_id` has OCR-D's syntax; '' means all pages."""

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
    """A processor job. Its id is the Celery task id. Times are seconds since the epoch.

    `pages` are the ids of the selected pages, or None for all. `workflow_job` is the id of the
    workflow run that the job belongs to, or ''.
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
    """One line of a workflow; `line` is 1-based. `processor` begins with `ocrd-`."""

    line: int
    processor: str
    input_file_grps: tuple[str, ...]
    output_file_grps: tuple[str, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowJob:
    """A run of a workflow.

    `jobs` are the ids of its jobs in the order of the steps, by page id ('' for all pages).
    """

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
