"""Request and response models of OCR-D's Web API, with a few additional fields."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, RootModel, model_validator

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import processing
from ocr_tasks.ocrd.model import ProcessingState, ProcessorJob, Run, WorkflowJob, Workspace
from ocr_tasks.storage import layout
from web.http.schemas import Query
from web.ocrd import naming


class HomeBody(BaseModel):
    message: str
    time: str


class DiscoveryBody(BaseModel):
    """The resources of workers that offer processors."""

    ram: int | None = Field(None, description="Bytes of memory.")
    cpu_cores: int | None = None
    has_cuda: bool | None = None
    cuda_version: str | None = None
    has_ocrd_all: bool | None = None
    ocrd_all_version: str | None = None


class ProcessorList(RootModel[list[str]]):
    """Names of executables."""


class ProcessorPath(BaseModel):
    executable: str = Field(description="Name of the processor, e.g. `ocrd-dummy`.")


class ProcessingPath(BaseModel):
    job_id: str = Field(description="Id of the job, from the response to its submission.")


class OlderPath(ProcessorPath, ProcessingPath):
    pass


class QueuePath(BaseModel):
    name: str = Field(description="The `result_queue_name` of runs.")


class ReceiptPath(QueuePath):
    receipt: str = Field(description="The `receipt` of the messages.")


class ResultsQuery(Query):
    wait: float = Field(0, ge=0, le=600, description="Maximum seconds to wait for messages.")
    receipt: str | None = Field(
        None, description="Receipt of earlier messages to acknowledge first."
    )


class AcknowledgedBody(BaseModel):
    acknowledged: int = Field(
        description="Number of deleted messages; 0 if the messages were returned to the queue."
    )


class ProcessorArgs(BaseModel):
    """A run of a processor. Other fields are ignored."""

    path_to_mets: str | None = Field(
        None, description="Path of the workspace's METS file; instead of `workspace_id`."
    )
    workspace_id: str | None = None
    description: str | None = None
    input_file_grps: list[str]
    output_file_grps: list[str] | None = None
    page_id: str | None = Field(
        None,
        description="Comma-separated ids, ranges (`PHYS_0001..PHYS_0009`) and regular expressions "
        "(`//REGEX`, in the syntax of RE2).",
    )
    parameters: dict[str, Any] | None = Field(default_factory=dict)
    result_queue_name: str | None = None
    callback_url: str | None = None
    depends_on: list[str] | None = Field(None, description="Ids of jobs to wait for.")
    job_id: str | None = Field(None, description="Must not be set: the server generates ids.")

    def run(self, executable: str) -> Run:
        """Returns the run that is requested; raises `ProcessingInvalid`."""
        if self.job_id is not None:
            raise ocrd_errors.ProcessingInvalid("Omit job_id; the response contains it")
        return Run(
            processor=executable,
            input_file_grps=tuple(self.input_file_grps),
            output_file_grps=tuple(self.output_file_grps or ()),
            page_id=self.page_id or "",
            parameters=self.parameters or {},
            depends_on=tuple(self.depends_on or ()),
            description=self.description or "",
            result_queue_name=self.result_queue_name or "",
            callback_url=self.callback_url or "",
        )


class OlderArgs(ProcessorArgs):
    """A run in version 0.0.1: the workspace as a URL, comma-separated file groups."""

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        named = body.get("workspace")
        address = named.get("@id") if isinstance(named, dict) else named
        if isinstance(address, str) and "workspace_id" not in body:
            body = {**body, "workspace_id": address.rstrip("/").rpartition("/")[2]}
        groups = {
            name: [group.strip() for group in body[name].split(",")]
            for name in ("input_file_grps", "output_file_grps")
            if isinstance(body.get(name), str)
        }
        return {**body, **groups}


class ProcessorJobBody(BaseModel):
    """A processor job. Unset fields are omitted."""

    job_id: str
    processor_name: str
    state: ProcessingState
    path_to_mets: str
    workspace_id: str | None = None
    input_file_grps: list[str]
    output_file_grps: list[str] | None = None
    page_id: str | None = None
    log_file_path: str | None = Field(
        None, description="Path of the log on the server. Unset until the job has started."
    )
    waiting: str | None = Field(
        None, description="Why the job stays queued, if no running worker offers its processor."
    )
    error_code: str | None = Field(None, description="Error code, in addition to OCR-D's fields.")
    error: str | None = None

    @classmethod
    def of(cls, job: ProcessorJob) -> ProcessorJobBody:
        return cls(
            job_id=job.id,
            processor_name=job.run.processor,
            state=job.state,
            path_to_mets=str(job.path_to_mets),
            workspace_id=job.workspace_id or None,
            input_file_grps=list(job.run.input_file_grps),
            output_file_grps=list(job.run.output_file_grps) or None,
            page_id=job.run.page_id or None,
            log_file_path=str(layout.job(job.id).log) if job.started_at else None,
            waiting=processing.why_queued(job) or None,
            error_code=job.error_code or None,
            error=job.error or None,
        )


class WorkflowPath(BaseModel):
    workflow_id: str = Field(description="Id of the workflow, from the response to its upload.")


class OlderWorkflowPath(WorkflowPath, ProcessingPath):
    pass


class WorkflowBody(BaseModel):
    workflow_id: str


class WorkflowId(RootModel[str]):
    """The id of the workflow."""


class WorkflowRunQuery(Query):
    mets_path: str | None = Field(
        None, description="Path of the METS file of the workspace; instead of `workspace_id`."
    )
    workspace_id: str | None = Field(
        None, description="Id of the workspace; instead of `mets_path`. Not part of OCR-D's API."
    )
    workflow_id: str | None = Field(
        None, description="Id of a stored workflow; instead of a workflow in the body."
    )
    page_id: str | None = Field(None, description="Pages, as for a run of a processor.")
    page_wise: bool = Field(False, description="Run the steps separately for each page.")
    workflow_callback_url: str | None = Field(
        None, description="URL for one POST request when the run has ended."
    )
    agent_type: str = Field("worker", description="Ignored: there are only workers.")


class OlderWorkflowArgs(BaseModel):
    """A run of a workflow in version 0.0.1."""

    workspace_id: str
    workflow_parameters: dict[str, Any] | None = Field(
        None,
        description="Parameters of a Nextflow script; other workflows have none.",
    )


class WorkflowJobBody(BaseModel):
    """A run of a workflow. Unset fields are omitted."""

    job_id: str
    page_id: str = Field(description="The selected pages; empty: all pages.")
    page_wise: bool | None = None
    processing_job_ids: dict[str, list[str]] = Field(
        description="Ids of the processor jobs in their order, by page."
    )
    path_to_mets: str
    workspace_id: str | None = None
    description: str | None = None

    @classmethod
    def of(cls, job: WorkflowJob) -> WorkflowJobBody:
        return cls(
            job_id=job.id,
            page_id=job.page_id,
            page_wise=job.page_wise or None,
            processing_job_ids=job.jobs,
            path_to_mets=str(job.path_to_mets),
            workspace_id=job.workspace_id or None,
            description=job.description or None,
        )


class StateBody(BaseModel):
    state: ProcessingState


class WorkspacePath(BaseModel):
    workspace_id: str


class WorkspaceBody(BaseModel):
    """A workspace, with the fields of the specification and those of existing servers."""

    id: str = Field(alias="@id", description="URL of the workspace.")
    description: str | None = None
    resource_id: str
    resource_url: str
    workspace_id: str
    path_to_mets: str = Field(description="Path of the METS file, which runs may also use.")

    @classmethod
    def of(cls, found: Workspace) -> WorkspaceBody:
        address = naming.address(found)
        return cls(
            **{"@id": address},
            description=found.description or None,
            resource_id=found.id,
            resource_url=address,
            workspace_id=found.id,
            path_to_mets=str(found.mets),
        )


class WorkspaceList(RootModel[list[WorkspaceBody]]):
    """The workspaces that the client can access."""


class ImportQuery(Query):
    """The source of a workspace."""

    mets_url: str = Field(description="http(s) URL of a METS file.")
    preserve_file_grps: str | None = Field(
        None, description="Comma-separated file groups to download. Default: all."
    )
    mets_basename: str = Field("mets.xml", description="Name of the METS file in the workspace.")


class ImportBody(BaseModel):
    """The source of a workspace, in a request body."""

    mets_url: str
    preserve_file_grps: list[str] | str | None = None
    mets_basename: str | None = None
