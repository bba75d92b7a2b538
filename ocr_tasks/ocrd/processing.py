"""Stub."""

from __future__ import annotations

from pathlib import Path

from ocr_tasks.ocrd.model import ProcessorJob, Run, Workspace


def submit(run: Run, workspace: Workspace, owner: str) -> ProcessorJob:
    raise NotImplementedError


def read(job_id: str, owner: str | None) -> ProcessorJob:
    raise NotImplementedError


def cancel(job_id: str, owner: str | None) -> ProcessorJob:
    raise NotImplementedError


def log_file(job_id: str, owner: str | None) -> Path:
    raise NotImplementedError
