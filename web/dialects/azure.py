"""/documentintelligence: the model `prebuilt-read` of Azure Document Intelligence.

Implements api-version 2024-11-30:
https://github.com/Azure/azure-rest-api-specs/blob/main/specification/ai/data-plane/DocumentIntelligence/stable/2024-11-30/DocumentIntelligence.json
Azure's SDKs (https://pypi.org/project/azure-ai-documentintelligence/) get the result's URL from
Operation-Location, and poll it at the interval in Retry-After, which must be whole seconds.
An analysis is an ordinary job with the same id.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import cast

from flask import Response, current_app, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field
from werkzeug.exceptions import MethodNotAllowed, NotFound

from ocr_tasks import errors
from ocr_tasks.formats.page import Page
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Job, State
from ocr_tasks.options import JobOptions
from ocr_tasks.storage import store
from web.access import authentication
from web.api import submission
from web.dialects import azure_errors, azure_result
from web.dialects.azure_requests import (
    AnalyzeQuery,
    ResultOptions,
    VersionQuery,
    check_model,
    check_version,
    job_options,
    receive_document,
)
from web.dialects.azure_result import API_VERSION, MODEL
from web.http import downloads, streaming

_PREFIX = "/documentintelligence"

blueprint = APIBlueprint(
    "azure",
    __name__,
    url_prefix=_PREFIX,
    abp_tags=[Tag(name="Azure Document Intelligence", description="The model prebuilt-read")],
)
azure_errors.install(blueprint)

_STATUS = {
    State.QUEUED: "notStarted",
    State.RUNNING: "running",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "canceled",
}

#: Whole seconds. Azure's SDKs treat 0 as if the header was missing. A page takes about a second.
_RETRY_AFTER = "1"

_MODEL_DETAILS = {
    "modelId": MODEL,
    "description": "Extracts text from scans and images.",
    "createdDateTime": "2024-11-30T00:00:00Z",
    "apiVersion": API_VERSION,
}


class ModelPath(BaseModel):
    model_id: str = Field(description="`prebuilt-read`, the only model.")


class ResultPath(ModelPath):
    job_id: str = Field(description="Id from Operation-Location, which is also the job's id.")


@blueprint.after_request
def _mark(response: Response) -> Response:
    response.headers["apim-request-id"] = str(uuid.uuid4())
    return response


# Submit


# Without `string:`, flask-openapi3 would parse `:analyze` as part of a converter.
@blueprint.post("/documentModels/<string:model_id>:analyze", responses={202: None})
def analyze(path: ModelPath, query: AnalyzeQuery) -> Response:
    """Analyze a document.

    The body is the document itself, or JSON with `base64Source` or `urlSource`. The response
    contains the URL of the result in `Operation-Location`.
    """
    upload = cast("streaming.UploadRequest", request)
    with submission.admitting(upload) as caller:
        check_version(query)
        check_model(path.model_id)
        result_options, chosen = ResultOptions.of(query), job_options(query)
        job = submission.submit(caller, receive_document(upload), chosen, reuse=False)
        result_options.save(job.id)
    response = Response(status=202)
    response.headers["Operation-Location"] = (
        f"{request.host_url.rstrip('/')}{_PREFIX}/documentModels/{MODEL}/analyzeResults/{job.id}"
        f"?api-version={API_VERSION}"
    )
    response.headers["Retry-After"] = _RETRY_AFTER
    return response


# Results


@blueprint.get("/documentModels/<model_id>/analyzeResults/<job_id>")
def result(path: ResultPath, query: VersionQuery) -> Response:
    """Get the status of an analysis and, once it has succeeded, its result."""
    job, result_options = _read(path, query)
    status: dict[str, object] = {
        "status": _STATUS[job.state],
        "createdDateTime": _stamp(job.created_at),
        "lastUpdatedDateTime": _stamp(job.ended_at or job.progress.updated_at or job.created_at),
    }
    if job.failure:
        status["error"] = azure_errors.of_failure(job.failure)
    if job.outcome is None:
        response = _json(status)
        if not job.state.final:
            response.headers["Retry-After"] = _RETRY_AFTER
        return response
    body = _with_result(status, job, result_options)
    # The first page is loaded before the response starts, so that a missing one is still an error.
    return _json(chain([next(body)], body))


@blueprint.get("/documentModels/<model_id>/analyzeResults/<job_id>/pdf")
def result_pdf(path: ResultPath, query: VersionQuery) -> Response:
    """Download the searchable PDF, if the document was sent with `output=pdf`."""
    job, result_options = _read(path, query)
    if not result_options.pdf:
        raise errors.ArtifactNotFound("The document was not submitted with output=pdf")
    return downloads.artifact(job, "pdf")


@blueprint.delete("/documentModels/<model_id>/analyzeResults/<job_id>", responses={204: None})
def delete(path: ResultPath, query: VersionQuery) -> Response:
    """Delete an analysis: the job and its files. Deleting it again is not an error."""
    with suppress(errors.JobDeleted):
        job, _ = _read(path, query)
        lifecycle.delete(job.id, authentication.caller().sees)
    return Response(status=204)


def _read(path: ResultPath, query: VersionQuery) -> tuple[Job, ResultOptions]:
    check_version(query)
    check_model(path.model_id)
    job = lifecycle.read(path.job_id, authentication.caller().sees)
    return job, ResultOptions.read(job.id)


def _with_result(
    status: dict[str, object], job: Job, result_options: ResultOptions
) -> Iterator[str]:
    numbers = _page_numbers(job)
    failed = job.outcome.failed_pages if job.outcome else ()

    def pages() -> Iterator[Page]:
        for number in numbers:
            page = store.page(job.id, number)
            if page is None:
                raise errors.ResultGone()
            yield page

    form = azure_result.Form(
        index=result_options.index,
        in_pixels=job.input.media_type.startswith("image/"),
        languages=result_options.languages,
        warnings=[azure_result.Warned(row.code, row.message, row.page) for row in failed],
    )
    next(pages())
    yield json.dumps(status)[:-1] + ',"analyzeResult":'
    yield from azure_result.document(pages, form)
    yield "}"


def _page_numbers(job: Job) -> list[int]:
    """Returns the numbers of the selected pages, in document order."""
    selected = JobOptions.model_validate(job.options).page_numbers(job.input.pages)
    ranges = (part.partition("-") for part in selected.split(",") if part)
    chosen = {page for first, _, last in ranges for page in range(int(first), int(last) + 1)}
    return sorted(chosen) or list(range(1, job.input.pages + 1))


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(body: dict[str, object] | Iterable[str]) -> Response:
    content = json.dumps(body) if isinstance(body, dict) else body
    response = Response(content, content_type="application/json; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    return response


# Models


@blueprint.get("/documentModels")
def models(query: VersionQuery) -> Response:
    """List the models."""
    check_version(query)
    return _json({"value": [_MODEL_DETAILS]})


@blueprint.get("/documentModels/<model_id>")
def model(path: ModelPath, query: VersionQuery) -> Response:
    """Get a model."""
    check_version(query)
    check_model(path.model_id)
    return _json(dict(_MODEL_DETAILS))


@blueprint.get("/info")
def info(query: VersionQuery) -> Response:
    """Get the number of custom models and its limit, both 0."""
    check_version(query)
    return _json({"customDocumentModels": {"count": 0, "limit": 0}})


def unknown(rest: str = "") -> Response:
    """Rejects all other URLs and methods under the prefix, with an error in Azure's format."""
    adapter = current_app.create_url_adapter(request)
    methods = ("GET", "POST", "DELETE")
    known = [m for m in methods if adapter and adapter.match(method=m)[0] != request.endpoint]
    raise MethodNotAllowed(known) if known else NotFound()


for _rule in ("", "/", "/<path:rest>"):
    _methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    blueprint.add_url_rule(_rule, view_func=unknown, methods=_methods)
