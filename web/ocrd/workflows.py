"""Workflows, and runs of them."""

from __future__ import annotations

from typing import Any, cast

from flask import Response, request

from ocr_tasks import errors
from ocr_tasks.ocrd import workflows
from web.access import authentication
from web.http import problems, streaming
from web.ocrd import blueprints, naming
from web.ocrd.blueprints import answer
from web.ocrd.bodies import (
    OlderWorkflowArgs,
    OlderWorkflowPath,
    ProcessingPath,
    StateBody,
    WorkflowBody,
    WorkflowId,
    WorkflowJobBody,
    WorkflowPath,
    WorkflowRunQuery,
)

blueprint = blueprints.make("workflows", "Runs of several processors, one after the other")
blueprint.register_error_handler(errors.MalformedRequest, blueprints.unprocessable)

#: Bytes of the text of a workflow.
MOST_BYTES = 64 * 1024


def _form(required: bool) -> dict[str, Any]:
    """The body that brings a workflow, as OpenAPI describes it."""
    text = {
        "type": "string",
        "format": "binary",
        "description": f"A task of `ocrd process` in each line, {MOST_BYTES} bytes at most.",
    }
    schema: dict[str, Any] = {"type": "object", "properties": {"workflow": text}}
    if required:
        schema["required"] = ["workflow"]
    return {
        "content": {
            "multipart/form-data": {"schema": schema},
            "text/plain": {"schema": {"type": "string"}},
        },
        "required": required,
    }


@blueprint.errorhandler(errors.ProcessorNotFound)
@blueprint.errorhandler(errors.ProcessorUnavailable)
def _unavailable(error: errors.OcrTasksError) -> Response:
    # As OCR-D's server says it of a workflow.
    return problems.respond(error, 406)


# Workflows


@blueprint.post(
    "/workflow", responses={200: WorkflowBody}, openapi_extensions={"requestBody": _form(True)}
)
def create() -> Response:
    """Store a workflow: a file, a field of a form, or the body itself as text/plain."""
    return answer(
        WorkflowBody(workflow_id=workflows.save(_needed_text(), authentication.caller().id))
    )


@blueprint.put(
    "/workflow/<workflow_id>",
    responses={200: WorkflowId},
    openapi_extensions={"requestBody": _form(True)},
)
def replace(path: WorkflowPath) -> Response:
    """Store another text under the id of a workflow."""
    workflows.replace(path.workflow_id, _needed_text(), authentication.caller().sees)
    return answer(WorkflowId(path.workflow_id))


@blueprint.get("/workflow/<workflow_id>")
def show(path: WorkflowPath) -> Response:
    """The text of a workflow."""
    return blueprints.plain(workflows.text(path.workflow_id, authentication.caller().sees))


# Runs


@blueprint.post(
    "/workflow/run",
    responses={200: WorkflowJobBody},
    openapi_extensions={"requestBody": _form(False)},
)
def run(query: WorkflowRunQuery) -> Response:
    """Run a workflow on a workspace: a stored one, or the one in the body."""
    return _run(query)


@blueprint.get("/workflow/job/<job_id>")
def job(path: ProcessingPath) -> Response:
    """How many jobs of each processor are in which state, and which have failed."""
    return _job(path.job_id)


@blueprint.get("/workflow/job-simple/<job_id>", responses={200: StateBody})
def job_state(path: ProcessingPath) -> Response:
    """The state of a run of a workflow in one word."""
    return answer(
        StateBody(state=workflows.simple_state(path.job_id, authentication.caller().sees))
    )


@blueprint.delete("/workflow/job/<job_id>", responses={200: WorkflowJobBody})
def cancel(path: ProcessingPath) -> Response:
    """Cancel all jobs of a run of a workflow that have not ended."""
    return answer(WorkflowJobBody.of(workflows.cancel(path.job_id, authentication.caller().sees)))


# Version 0.0.1


@blueprint.post("/workflow/<workflow_id>", responses={200: WorkflowJobBody}, deprecated=True)
def older_run(path: WorkflowPath, body: OlderWorkflowArgs) -> Response:
    """Run a stored workflow, as version 0.0.1 had it."""
    if body.workflow_parameters:
        raise errors.ProcessingInvalid("a workflow has all its parameters in its text")
    return _run(WorkflowRunQuery(workspace_id=body.workspace_id, workflow_id=path.workflow_id))


@blueprint.get("/workflow/<workflow_id>/<job_id>", deprecated=True)
def older_job(path: OlderWorkflowPath) -> Response:
    """How far a run of a workflow is, as version 0.0.1 had it."""
    return _job(path.job_id)


def _run(asked: WorkflowRunQuery) -> Response:
    caller = authentication.caller()
    caller.spend("submits_minute")
    stored = asked.workflow_id
    text = workflows.text(stored, caller.sees) if stored else _needed_text()
    workspace = naming.workspace(asked.mets_path, asked.workspace_id)
    job = workflows.run(
        text,
        workspace,
        asked.page_id or "",
        asked.page_wise,
        asked.workflow_callback_url or "",
        caller.id,
    )
    return answer(WorkflowJobBody.of(job))


def _job(job_id: str) -> Response:
    return answer(workflows.summary(job_id, authentication.caller().sees))


def _needed_text() -> str:
    """The workflow that the request brings."""
    upload = cast("streaming.UploadRequest", request)
    with streaming.taking(upload):
        try:
            sent = streaming.read_text(upload, "workflow", MOST_BYTES)
        except errors.UploadTooLarge:
            raise errors.WorkflowInvalid(f"more than {MOST_BYTES} bytes") from None
    if sent is None:
        raise errors.WorkflowInvalid("there is no form with a file in the field `workflow`")
    try:
        return sent.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.WorkflowInvalid(f"byte {error.start + 1} is not UTF-8") from None
