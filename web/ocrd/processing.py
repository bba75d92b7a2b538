"""Jobs of processors."""

from __future__ import annotations

from flask import Response, request

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import messages, processing, tools
from web.access import authentication
from web.api import events
from web.http import downloads
from web.ocrd import blueprints, naming
from web.ocrd.blueprints import answer
from web.ocrd.bodies import (
    OlderArgs,
    OlderPath,
    ProcessingPath,
    ProcessorArgs,
    ProcessorJobBody,
    ProcessorPath,
    QueuePath,
    WaitQuery,
)

blueprint = blueprints.make("processing", "Jobs of processors")
blueprint.register_error_handler(errors.MalformedRequest, blueprints.unprocessable)

_LOG_TYPE = "text/plain; charset=utf-8"


@blueprint.post("/processor/run/<executable>", responses={200: ProcessorJobBody})
def run(path: ProcessorPath, body: ProcessorArgs) -> Response:
    """Run a processor on a workspace."""
    return _run(path.executable, body)


@blueprint.get("/processor/job/<job_id>", responses={200: ProcessorJobBody})
def show(path: ProcessingPath) -> Response:
    """Read a job of a processor."""
    return _show(path.job_id)


@blueprint.delete("/processor/job/<job_id>", responses={200: ProcessorJobBody})
def cancel(path: ProcessingPath) -> Response:
    """Cancel a job of a processor, and those that depend on it."""
    return answer(ProcessorJobBody.of(processing.cancel(path.job_id, authentication.caller().sees)))


@blueprint.get("/processor/log/<job_id>")
def log(path: ProcessingPath) -> Response:
    """What the processor has said so far; empty before it begins."""
    return _log(path.job_id)


@blueprint.get("/result_queue/<name>")
def results(path: QueuePath, query: WaitQuery) -> Response:
    """Take the messages that a result queue has, of jobs that were sent by the same token."""
    if request.method == "HEAD":  # a look must not take them
        raise errors.MethodNotAllowed()
    wait = min(query.wait, settings.get().wait_max)
    with events.place() as may_wait:
        found = messages.results(path.name, authentication.caller().id, wait if may_wait else 0)
        return answer(list(found))


# Version 0.0.1


@blueprint.get("/processor/<executable>", deprecated=True)
def older_processor(path: ProcessorPath) -> Response:
    """What a processor is, as version 0.0.1 had it."""
    return answer(tools.tool(path.executable))


@blueprint.post("/processor/<executable>", responses={200: ProcessorJobBody}, deprecated=True)
def older_run(path: ProcessorPath, body: OlderArgs) -> Response:
    """Run a processor on a workspace, as version 0.0.1 had it."""
    return _run(path.executable, body)


@blueprint.get(
    "/processor/<executable>/<job_id>", responses={200: ProcessorJobBody}, deprecated=True
)
def older_show(path: OlderPath) -> Response:
    """Read a job of a processor, as version 0.0.1 had it."""
    return _show(path.job_id)


@blueprint.get("/processor/<executable>/<job_id>/log", deprecated=True)
def older_log(path: OlderPath) -> Response:
    """What the processor has said so far, as version 0.0.1 had it."""
    return _log(path.job_id)


def _run(executable: str, asked: ProcessorArgs) -> Response:
    caller = authentication.caller()
    caller.spend("submits_minute")
    wanted = asked.run(executable)
    workspace = naming.workspace(asked.path_to_mets, asked.workspace_id)
    return answer(ProcessorJobBody.of(processing.submit(wanted, workspace, caller.id)))


def _show(job_id: str) -> Response:
    return answer(ProcessorJobBody.of(processing.read(job_id, authentication.caller().sees)))


def _log(job_id: str) -> Response:
    file = processing.log_file(job_id, authentication.caller().sees)
    name = f"{job_id}.log"
    if file.exists():
        return downloads.file(file, _LOG_TYPE, name, etag=True)
    response = blueprints.plain("")
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
