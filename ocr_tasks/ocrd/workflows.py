"""Stub."""

from __future__ import annotations

from typing import Any

from ocr_tasks.ocrd.model import ProcessingState, ProcessorJob, WorkflowJob, Workspace


def save(text: str, owner: str) -> str:
    raise NotImplementedError


def replace(workflow_id: str, text: str, owner: str | None) -> None:
    raise NotImplementedError


def text(workflow_id: str, owner: str | None) -> str:
    raise NotImplementedError


def run(
    text: str,
    workspace: Workspace,
    page_id: str,
    page_wise: bool,
    callback_url: str,
    owner: str,
    description: str = "",
) -> WorkflowJob:
    raise NotImplementedError


def read_job(job_id: str, owner: str | None) -> WorkflowJob:
    raise NotImplementedError


def states(job: WorkflowJob) -> dict[str, ProcessorJob]:
    raise NotImplementedError


def summary(job_id: str, owner: str | None) -> dict[str, Any]:
    raise NotImplementedError


def simple_state(job_id: str, owner: str | None) -> ProcessingState:
    raise NotImplementedError


def cancel(job_id: str, owner: str | None) -> WorkflowJob:
    raise NotImplementedError
