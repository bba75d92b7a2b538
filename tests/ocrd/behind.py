"""A fake of the functions that OCR-D's Web API calls; it records their arguments in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ocr_tasks.ocrd import discovery, messages, processing, tools, workflows, workspaces
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.model import ProcessingState, ProcessorJob, Run, WorkflowJob, Workspace

JOB = "11111111-1111-4111-8111-111111111111"
RUN = "22222222-2222-4222-8222-222222222222"
RECEIPT = "33333333-3333-4333-8333-333333333333"
TOOL = {"executable": "ocrd-dummy", "steps": ["preprocessing/optimization"], "parameters": {}}


class Behind:
    """One processor, one existing workspace and a deleted one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace("ws-1", folder / "ws-1" / "data" / "mets.xml", "ocrd:kant")
        self.gone = "ws-0"
        self.received: list[tuple[bytes, str, str | None]] = []
        self.fetched: list[tuple[str, str, list[str] | None, str]] = []
        self.jobs: dict[str, ProcessorJob] = {}
        self.runs: list[tuple[str, Workspace, str, bool, str, str]] = []
        self.texts: dict[str, str] = {}
        self.log = folder / "log"
        self.seen: list[str | None] = []
        self.acknowledged: list[str] = []
        self.offered = ["ocrd-dummy"]

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(discovery, "describe", lambda: {"ram": 8_000_000_000, "cpu_cores": 2})
        patch.setattr(tools, "offered", lambda: self.offered)
        patch.setattr(tools, "tool", self.tool)
        patch.setattr(tools, "is_offered", self.offered.__contains__)
        patch.setattr(messages, "lease", self.lease_results)
        patch.setattr(messages, "acknowledge", self.acknowledge)
        for module, names in {
            processing: ("submit", "cancel", "log_file"),
            workflows: ("save", "replace", "text", "run"),
            workspaces: ("receive", "fetch", "listed", "find", "pack", "delete"),
        }.items():
            for name in names:
                patch.setattr(module, name, getattr(self, name))
        patch.setattr(processing, "read", self.read_job)
        patch.setattr(workspaces, "read", self.read_workspace)
        patch.setattr(workflows, "summary", self.summary)
        patch.setattr(workflows, "simple_state", self.simple_state)
        patch.setattr(workflows, "cancel", self.cancel_run)

    # Processors and their jobs

    def tool(self, name: str) -> dict[str, Any]:
        if name != "ocrd-dummy":
            raise ocrd_errors.ProcessorNotFound(name)
        return TOOL

    def submit(self, run: Run, workspace: Workspace, owner: str) -> ProcessorJob:
        self.tool(run.processor)
        state = ProcessingState.CACHED if run.depends_on else ProcessingState.QUEUED
        job = ProcessorJob(JOB, state, run, workspace.mets, workspace.id, owner, 0.0)
        self.jobs[job.id] = job
        return job

    def read_job(self, job_id: str, owner: str | None) -> ProcessorJob:
        self.seen.append(owner)
        if job_id not in self.jobs:
            raise ocrd_errors.ProcessingNotFound()
        return self.jobs[job_id]

    def cancel(self, job_id: str, owner: str | None) -> ProcessorJob:
        job = self.read_job(job_id, owner)
        return dataclasses.replace(job, state=ProcessingState.CANCELLED)

    def log_file(self, job_id: str, owner: str | None) -> Path:
        self.read_job(job_id, owner)
        return self.log

    def lease_results(
        self, name: str, owner: str | None, seconds: float, has_left: Callable[[], bool]
    ) -> list[dict[str, Any]]:
        self.seen.append(owner)
        if name in self.acknowledged or has_left():
            return []
        row = {"job_id": JOB, "state": "SUCCESS", "queue": name, "waited": seconds}
        return [row | {"receipt": RECEIPT}]

    def acknowledge(self, name: str, owner: str | None, receipt: str) -> int:
        self.seen.append(owner)
        self.acknowledged.append(name)
        return int(receipt == RECEIPT)

    # Workflows

    def save(self, text: str, owner: str) -> str:
        self._check(text)
        for known, other in self.texts.items():
            if other == text:
                raise ocrd_errors.WorkflowExists(f"workflow id: {known}", workflow_id=known)
        self.texts[f"wf-{len(self.texts)}"] = text
        return f"wf-{len(self.texts) - 1}"

    def replace(self, workflow_id: str, text: str, owner: str | None) -> None:
        self.text(workflow_id, owner)
        self._check(text)
        self.texts[workflow_id] = text

    def text(self, workflow_id: str, owner: str | None) -> str:
        if workflow_id not in self.texts:
            raise ocrd_errors.WorkflowNotFound()
        return self.texts[workflow_id]

    def run(
        self,
        text: str,
        workspace: Workspace,
        page_id: str,
        page_wise: bool,
        callback_url: str,
        owner: str,
        description: str = "",
        parameters: dict[str, Any] | None = None,
    ) -> WorkflowJob:
        self._check(text)
        self.parameters = parameters
        if "missing" in text:
            raise ocrd_errors.ProcessorUnavailable("ocrd-missing")
        self.runs.append((text, workspace, page_id, page_wise, callback_url, owner))
        jobs = {page_id: [JOB]}
        return WorkflowJob(
            RUN, workspace.mets, workspace.id, owner, page_id, page_wise, jobs, 0.0, description
        )

    def summary(self, job_id: str, owner: str | None) -> dict[str, Any]:
        self.simple_state(job_id, owner)
        return {"ocrd-dummy": {"SUCCESS": 3}}

    def simple_state(self, job_id: str, owner: str | None) -> ProcessingState:
        if job_id != RUN:
            raise ocrd_errors.ProcessingNotFound()
        return ProcessingState.RUNNING

    def cancel_run(self, job_id: str, owner: str | None) -> WorkflowJob:
        self.simple_state(job_id, owner)
        return WorkflowJob(RUN, self.workspace.mets, "", "", "", False, {"": [JOB]}, 0.0)

    def _check(self, text: str) -> None:
        if " -I " not in text:
            raise ocrd_errors.WorkflowInvalid("line 1, column 1: -I is missing", line=1, column=1)

    # Workspaces

    def receive(
        self, upload_folder: Path, archive: Path, owner: str, workspace_id: str | None = None
    ) -> Workspace:
        assert archive.parent == upload_folder
        content = archive.read_bytes()
        if not content.startswith(b"PK"):
            raise ocrd_errors.WorkspaceInvalid("not a ZIP")
        self.received.append((content, owner, workspace_id))
        if workspace_id:
            return dataclasses.replace(self.workspace, id=workspace_id)
        return self.workspace

    def fetch(
        self, mets_url: str, owner: str, groups: Sequence[str] | None, basename: str = "mets.xml"
    ) -> Workspace:
        if not mets_url.startswith("http"):
            raise ocrd_errors.WorkspaceDownloadFailed(mets_url)
        if groups == ["NONE"]:
            raise ocrd_errors.FileGroupUnknown("METS has no file group 'NONE'")
        self.fetched.append((mets_url, owner, list(groups) if groups else None, basename))
        return self.workspace

    def listed(self, owner: str | None) -> list[Workspace]:
        return [self.workspace]

    def read_workspace(self, workspace_id: str, owner: str | None) -> Workspace:
        self.seen.append(owner)
        if workspace_id == self.gone:
            raise ocrd_errors.WorkspaceDeleted()
        if workspace_id != self.workspace.id:
            raise ocrd_errors.WorkspaceNotFound()
        return self.workspace

    def find(self, path_to_mets: str, owner: str | None) -> Workspace:
        if path_to_mets != str(self.workspace.mets):
            raise ocrd_errors.WorkspaceNotFound()
        return self.workspace

    def pack(self, workspace: Workspace) -> Iterator[bytes]:
        yield b"PK"
        yield workspace.id.encode()

    def delete(self, workspace_id: str, owner: str | None) -> Workspace:
        return self.read_workspace(workspace_id, owner)
