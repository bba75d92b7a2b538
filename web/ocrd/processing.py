"""Processor jobs and result queues."""

from __future__ import annotations

from flask import Response, request

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import messages, processing, tools
from web.access import authentication
from web.api import events
from web.http import downloads, slow_clients
from web.ocrd import blueprints, naming
from web.ocrd.blueprints import json_response
from web.ocrd.bodies import (
    AcknowledgedBody,
    OlderArgs,
    OlderPath,
    ProcessingPath,
    ProcessorArgs,
    ProcessorJobBody,
    ProcessorPath,
    QueuePath,
    ReceiptPath,
    ResultsQuery,
)

blueprint = blueprints.make("processing", "Processor jobs")
blueprint.register_error_handler(errors.MalformedRequest, blueprints.unprocessable)

_LOG_TYPE = "text/plain; charset=utf-8"


@blueprint.post("/processor/run/<executable>", responses={200: ProcessorJobBody})
def run(path: ProcessorPath, body: ProcessorArgs) -> Response:
    """Run a processor on a workspace."""
    return _run(path.executable, body)


@blueprint.get("/processor/job/<job_id>", responses={200: ProcessorJobBody})
def show(path: ProcessingPath) -> Response:
    """Get a processor job."""
    return _show(path.job_id)


@blueprint.delete("/processor/job/<job_id>", responses={200: ProcessorJobBody})
def cancel(path: ProcessingPath) -> Response:
    """Cancel a processor job, and the jobs that depend on it."""
    return json_response(
        ProcessorJobBody.of(processing.cancel(path.job_id, authentication.caller().sees))
    )


@blueprint.get("/processor/log/<job_id>")
def log(path: ProcessingPath) -> Response:
    """Download the log of a processor job; empty before the job starts."""
    return _log(path.job_id)


@blueprint.get("/result_queue/<name>")
def results(path: QueuePath, query: ResultsQuery) -> Response:
    """Get the oldest messages in a result queue of the client's token, at most 100.

    Acknowledge them within 60 seconds: with DELETE, or by passing their `receipt` in the next
    request. Otherwise they are returned again.
    """
    if request.method == "HEAD":  # HEAD must not lease messages
        raise errors.MethodNotAllowed()
    owner = authentication.caller().id
    if query.receipt:
        messages.acknowledge(path.name, owner, query.receipt)
    wait = min(query.wait, settings.get().wait_max)
    with events.waiting_slot() as may_wait:
        return json_response(
            messages.lease(
                path.name,
                owner,
                wait if may_wait else 0,
                lambda: slow_clients.has_left(request),
            )
        )


@blueprint.delete("/result_queue/<name>/<receipt>", responses={200: AcknowledgedBody})
def acknowledge(path: ReceiptPath) -> Response:
    """Acknowledge messages of a result queue, which deletes them."""
    count = messages.acknowledge(path.name, authentication.caller().id, path.receipt)
    return json_response(AcknowledgedBody(acknowledged=count))


# Version 0.0.1


@blueprint.get("/processor/<executable>", deprecated=True)
def older_processor(path: ProcessorPath) -> Response:
    """Get the description of a processor (version 0.0.1)."""
    return json_response(tools.tool(path.executable))


@blueprint.post("/processor/<executable>", responses={200: ProcessorJobBody}, deprecated=True)
def older_run(path: ProcessorPath, body: OlderArgs) -> Response:
    """Run a processor on a workspace (version 0.0.1)."""
    return _run(path.executable, body)


@blueprint.get(
    "/processor/<executable>/<job_id>", responses={200: ProcessorJobBody}, deprecated=True
)
def older_show(path: OlderPath) -> Response:
    """Get a processor job (version 0.0.1)."""
    return _show(path.job_id)


@blueprint.get("/processor/<executable>/<job_id>/log", deprecated=True)
def older_log(path: OlderPath) -> Response:
    """Download the log of a processor job (version 0.0.1)."""
    return _log(path.job_id)


def _run(executable: str, args: ProcessorArgs) -> Response:
    caller = authentication.caller()
    caller.spend("submits_minute")
    requested = args.run(executable)
    workspace = naming.workspace(args.path_to_mets, args.workspace_id)
    return json_response(ProcessorJobBody.of(processing.submit(requested, workspace, caller.id)))


def _show(job_id: str) -> Response:
    return json_response(ProcessorJobBody.of(processing.read(job_id, authentication.caller().sees)))


def _log(job_id: str) -> Response:
    file = processing.log_file(job_id, authentication.caller().sees)
    name = f"{job_id}.log"
    if file.exists():
        return downloads.file(file, _LOG_TYPE, name, etag=True)
    response = blueprints.plain("")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
