"""Workflows and their runs."""

from __future__ import annotations

from typing import Any, cast

from flask import Response, request

from ocr_tasks import errors
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import workflows
from web.access import authentication
from web.http import problems, streaming
from web.ocrd import blueprints, naming
from web.ocrd.blueprints import json_response
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

blueprint = blueprints.make("workflows", "Sequences of processors")
blueprint.register_error_handler(errors.MalformedRequest, blueprints.unprocessable)

#: Maximum size of a workflow in bytes.
MAX_BYTES = 64 * 1024


def _form(required: bool) -> dict[str, Any]:
    """Returns the OpenAPI request body with a workflow."""
    text = {
        "type": "string",
        "format": "binary",
        "description": f"One task of `ocrd process` per line, at most {MAX_BYTES} bytes.",
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


@blueprint.errorhandler(ocrd_errors.ProcessorNotFound)
@blueprint.errorhandler(ocrd_errors.ProcessorUnavailable)
def _unavailable(error: errors.OcrTasksError) -> Response:
    # The status that OCR-D's server uses for workflows.
    return problems.respond(error, 406)


# Workflows


@blueprint.post(
    "/workflow", responses={200: WorkflowBody}, openapi_extensions={"requestBody": _form(True)}
)
def create() -> Response:
    """Create a workflow from a file, a form field, or a text/plain body."""
    return json_response(
        WorkflowBody(workflow_id=workflows.save(_workflow_text(), authentication.caller().id))
    )


@blueprint.put(
    "/workflow/<workflow_id>",
    responses={200: WorkflowId},
    openapi_extensions={"requestBody": _form(True)},
)
def replace(path: WorkflowPath) -> Response:
    """Replace a workflow."""
    workflows.replace(path.workflow_id, _workflow_text(), authentication.caller().sees)
    return json_response(WorkflowId(path.workflow_id))


@blueprint.get("/workflow/<workflow_id>")
def show(path: WorkflowPath) -> Response:
    """Download a workflow."""
    return blueprints.plain(workflows.text(path.workflow_id, authentication.caller().sees))


# Runs


@blueprint.post(
    "/workflow/run",
    responses={200: WorkflowJobBody},
    openapi_extensions={"requestBody": _form(False)},
)
def run(query: WorkflowRunQuery) -> Response:
    """Run a workflow on a workspace: a stored workflow, or the one in the body."""
    return _run(query)


@blueprint.get("/workflow/job/<job_id>")
def job(path: ProcessingPath) -> Response:
    """Get the number of jobs per processor and state, and the failed jobs."""
    return _job(path.job_id)


@blueprint.get("/workflow/job-simple/<job_id>", responses={200: StateBody})
def job_state(path: ProcessingPath) -> Response:
    """Get the state of a workflow run as one word."""
    return json_response(
        StateBody(state=workflows.simple_state(path.job_id, authentication.caller().sees))
    )


@blueprint.delete("/workflow/job/<job_id>", responses={200: WorkflowJobBody})
def cancel(path: ProcessingPath) -> Response:
    """Cancel all jobs of a workflow run that have not ended."""
    return json_response(
        WorkflowJobBody.of(workflows.cancel(path.job_id, authentication.caller().sees))
    )


# Version 0.0.1


@blueprint.post("/workflow/<workflow_id>", responses={200: WorkflowJobBody}, deprecated=True)
def older_run(path: WorkflowPath, body: OlderWorkflowArgs) -> Response:
    """Run a stored workflow (version 0.0.1)."""
    query = WorkflowRunQuery(workspace_id=body.workspace_id, workflow_id=path.workflow_id)
    return _run(query, body.workflow_parameters)


@blueprint.get("/workflow/<workflow_id>/<job_id>", deprecated=True)
def older_job(path: OlderWorkflowPath) -> Response:
    """Get the progress of a workflow run (version 0.0.1)."""
    return _job(path.job_id)


def _run(query: WorkflowRunQuery, parameters: dict[str, Any] | None = None) -> Response:
    caller = authentication.caller()
    caller.spend("submits_minute")
    stored = query.workflow_id
    text = workflows.text(stored, caller.sees) if stored else _workflow_text()
    workspace = naming.workspace(query.mets_path, query.workspace_id)
    job = workflows.run(
        text,
        workspace,
        query.page_id or "",
        query.page_wise,
        query.workflow_callback_url or "",
        caller.id,
        parameters=parameters,
    )
    return json_response(WorkflowJobBody.of(job))


def _job(job_id: str) -> Response:
    return json_response(workflows.summary(job_id, authentication.caller().sees))


def _workflow_text() -> str:
    """Returns the workflow in the request; raises `WorkflowInvalid`."""
    upload = cast("streaming.UploadRequest", request)
    with streaming.cleaning_up(upload):
        try:
            sent = streaming.read_text(upload, "workflow", MAX_BYTES)
        except errors.MalformedRequest as error:
            raise ocrd_errors.WorkflowInvalid(error.detail) from error
        except errors.UploadTooLarge:
            raise ocrd_errors.WorkflowInvalid(
                f"The workflow is larger than {MAX_BYTES} bytes"
            ) from None
    if sent is None:
        raise ocrd_errors.WorkflowInvalid(
            "The request has no form with a file in the field `workflow`"
        )
    try:
        return sent.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ocrd_errors.WorkflowInvalid(f"Byte {error.start + 1} is not UTF-8") from None
