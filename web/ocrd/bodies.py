"""What goes over the wire in OCR-D's words, as its specification has it, with a little of ours."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, RootModel, model_validator

from ocr_tasks import errors
from ocr_tasks.ocrd.model import ProcessingState, ProcessorJob, Run, WorkflowJob, Workspace
from web.http.schemas import Query
from web.ocrd import naming


class HomeBody(BaseModel):
    message: str
    time: str


class DiscoveryBody(BaseModel):
    """What the workers that offer processors have."""

    ram: int | None = Field(None, description="Bytes of memory.")
    cpu_cores: int | None = None
    has_cuda: bool | None = None
    cuda_version: str | None = None
    has_ocrd_all: bool | None = None
    ocrd_all_version: str | None = None


class ProcessorList(RootModel[list[str]]):
    """Names of executables."""


class ProcessorPath(BaseModel):
    executable: str = Field(description="Name of the processor, such as ocrd-dummy.")


class ProcessingPath(BaseModel):
    job_id: str = Field(description="As the run was answered with.")


class OlderPath(ProcessorPath, ProcessingPath):
    pass


class QueuePath(BaseModel):
    name: str = Field(description="`result_queue_name` of runs.")


class WaitQuery(Query):
    wait: float = Field(0, ge=0, le=600, description="Seconds to wait for messages at most.")


class ProcessorArgs(BaseModel):
    """A run of a processor. What else is in the body is not looked at."""

    path_to_mets: str | None = Field(
        None, description="Of the workspace; instead of `workspace_id`."
    )
    workspace_id: str | None = None
    description: str | None = None
    input_file_grps: list[str]
    output_file_grps: list[str] | None = None
    page_id: str | None = Field(
        None, description="Ids joined by commas, ranges as PHYS_0001..PHYS_0009, //REGEX."
    )
    parameters: dict[str, Any] | None = Field(default_factory=dict)
    result_queue_name: str | None = None
    callback_url: str | None = None
    depends_on: list[str] | None = Field(None, description="Ids of jobs to wait for.")
    job_id: str | None = Field(None, description="Must be left out: ids are made here.")

    def run(self, executable: str) -> Run:
        """What is to be run."""
        if self.job_id is not None:
            raise errors.ProcessingInvalid("job_id must be left out: the answer tells it")
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
    """The same as version 0.0.1 had it: the workspace by its address, groups joined by commas."""

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
    """A job of a processor; what is not set is left out."""

    job_id: str
    processor_name: str
    state: ProcessingState
    path_to_mets: str
    workspace_id: str | None = None
    input_file_grps: list[str]
    output_file_grps: list[str] | None = None
    page_id: str | None = None
    error_code: str | None = Field(None, description="Ours: why it failed.")
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
            error_code=job.error_code or None,
            error=job.error or None,
        )


class WorkflowPath(BaseModel):
    workflow_id: str = Field(description="As its upload was answered with.")


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
    workspace_id: str | None = Field(None, description="Ours: instead of `mets_path`.")
    workflow_id: str | None = Field(None, description="Instead of a workflow in the body.")
    page_id: str | None = Field(None, description="As for a run of a processor.")
    page_wise: bool = Field(False, description="Run all steps for each page on its own.")
    workflow_callback_url: str | None = Field(
        None, description="Where to POST how the run ended, once."
    )
    agent_type: str = Field("worker", description="Not looked at: there are only workers.")


class OlderWorkflowArgs(BaseModel):
    """A run of a workflow as version 0.0.1 had it."""

    workspace_id: str
    workflow_parameters: dict[str, Any] | None = Field(
        None, description="Must be empty: a workflow has all its parameters in its text."
    )


class WorkflowJobBody(BaseModel):
    """A run of a workflow; what is not set is left out."""

    job_id: str
    page_id: str = Field(description="As it was asked for; empty: all pages.")
    page_wise: bool | None = None
    processing_job_ids: dict[str, list[str]] = Field(
        description="Ids of the jobs of processors in their order, by page."
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
    """A workspace, in the words of the specification and in those of the servers there are."""

    id: str = Field(alias="@id", description="Its address.")
    description: str | None = None
    resource_id: str
    resource_url: str
    workspace_id: str
    path_to_mets: str = Field(description="By which runs can name it too.")

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
    """The workspaces that the caller may use."""


class ImportQuery(Query):
    """Where a workspace is fetched from."""

    mets_url: str = Field(description="http(s) address of a METS file.")
    preserve_file_grps: str | None = Field(
        None, description="File groups whose files are fetched, joined by commas; else all."
    )
    mets_basename: str = Field("mets.xml", description="Name that the METS file gets.")


class ImportBody(BaseModel):
    """The same in a body."""

    mets_url: str
    preserve_file_grps: list[str] | str | None = None
    mets_basename: str | None = None
