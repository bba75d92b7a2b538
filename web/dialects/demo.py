"""The API of the OCR-with-progress demo, for the demo's web page.

Compatible with https://github.com/QuentinFuxa/ocrmypdf-plugin-progress
(`fastapi-endpoints.py`, `src/ocr_functions.py`, and the page, `src/demo.html`). The page requests
progress without a job id and gets that of the last job its browser submitted. It displays `desc`
and `progress_bar / total unit`. It cannot display errors, so they are also sent in `desc`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any, cast

from flask import Response, after_this_request, request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from ocr_tasks import errors, options, settings
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Job, Stage, State
from ocr_tasks.redis import connection
from ocr_tasks.uploads import receive
from web.access import authentication
from web.api import submission
from web.http import downloads, streaming
from web.http.forms import file_form
from web.http.responses import json_response

blueprint = APIBlueprint(
    "demo",
    __name__,
    url_prefix="/ocr-pdf",
    abp_tags=[Tag(name="OCR with progress", description="API of the demo's web page")],
)

#: Identifies browsers behind the same IP address. It grants no access.
_COOKIE = "ocr_demo"

#: Texts of the stages, which are those of OCRmyPDF's progress bars.
_WORDS = {
    Stage.QUEUED: "Waiting",
    Stage.SCANNING: "Scanning contents",
    Stage.OCR: "OCR",
    Stage.ASSEMBLING: "PDF/A conversion",
    Stage.OPTIMIZING: "Optimizing",
    Stage.STORING: "Checking output",
}

_ENDING = "_ocr.pdf"

#: Key in Redis, one per client: string, the id of the job that it created last; lives a day.
_LAST_JOB_PREFIX = "ocr:latest:"
_LAST_JOB_SECONDS = 24 * 3600

_FORM = file_form("name", "Replaces the name of the file.")


class ResultPath(BaseModel):
    job_id: str = Field(description="Id of the job, from POST /ocr-pdf.")


class DownloadPath(BaseModel):
    filename: str = Field(description="Id of the job, followed by `_ocr.pdf`.")


@blueprint.after_request
def _in_its_shape(response: Response) -> Response:
    """Sends all errors in the demo's format."""
    if response.mimetype == "application/problem+json":
        problem = json.loads(response.get_data())
        text = _sentence(problem["detail"], problem["advice"])
        response.set_data(_dumped({"error": text, "code": problem["code"]}))
        response.content_type = "application/json"
    return response


@blueprint.post("", openapi_extensions={"requestBody": _FORM})
def create() -> Response:
    """Create a job for a PDF or an image, with `mode=force`: OCR runs on all pages."""
    upload = cast("streaming.UploadRequest", request)
    with submission.admitting(upload) as caller:
        limits = receive.Limits(settings.get().max_upload_bytes, files=1)
        incoming, form = streaming.read(upload, limits=limits)
        name = form.pop("name", [""])[0]
        if form:
            raise errors.MalformedRequest("The only field in addition to `file` is `name`")
        if name and incoming.names:
            incoming.names[0] = name
        chosen = options.from_dict({"mode": "force"})
        job = submission.submit(caller, incoming, chosen, reuse=False)
    _remember(job)
    return json_response({"id": job.id})


@blueprint.get("/progress/")
def progress() -> Response:
    """Get the progress of this browser's last job; `{}` if there is none."""
    job_id = _last_job_of(_browser())
    if job_id is None:
        return json_response({})
    try:
        job = lifecycle.read(job_id, authentication.caller().sees)
    except errors.StateError as error:
        return json_response(_bar(_sentence(error.detail, error.advice), terminated=True))
    return json_response(_progress(job))


@blueprint.get("/results/<job_id>")
def results(path: ResultPath) -> Response:
    """Get the state of a job and the URL of its PDF, or `error` if it failed."""
    job = lifecycle.read(path.job_id, authentication.caller().sees)
    if not job.state.final:
        return json_response({"extracted_text": "", "finished": False, "download_url": ""})
    if job.state is not State.SUCCEEDED:
        return json_response({"finished": True, "download_url": "", "error": _reason(job)})
    address = f"{blueprint.url_prefix}/download/{job.id}{_ENDING}"
    return json_response({"finished": True, "download_url": address})


@blueprint.get("/download/<filename>")
def download(path: DownloadPath) -> Response:
    """Download the PDF of a job."""
    job_id = path.filename.removesuffix(_ENDING)
    if job_id == path.filename:
        raise errors.NotFound()
    job = lifecycle.read(job_id, authentication.caller().sees)
    return downloads.artifact(job, "pdf", "result.pdf")


def _remember(job: Job) -> None:
    """Stores the last job of this browser, and identifies the browser with a cookie.

    Browsers do not send the cookie from pages of other sites. Without it, they are identified by
    IP address and User-Agent.
    """
    names = [_browser()]
    if _COOKIE not in request.cookies:
        cookie = secrets.token_urlsafe(16)
        names.append(_by_cookie(cookie))

        @after_this_request
        def give(response: Response) -> Response:
            response.set_cookie(
                _COOKIE,
                cookie,
                path=blueprint.url_prefix or "/",
                httponly=True,
                samesite="Strict",
                secure=request.is_secure,
            )
            return response

    for name in names:
        _store_last_job(name, job.id)


def _browser() -> str:
    cookie = request.cookies.get(_COOKIE)
    if cookie is not None:
        return _by_cookie(cookie)
    caller = authentication.caller()
    return f"{caller.id} {caller.address} {request.user_agent.string}"


def _by_cookie(cookie: str) -> str:
    return f"{authentication.caller().id} cookie {cookie}"


def _progress(job: Job) -> dict[str, Any]:
    if job.state is State.SUCCEEDED:
        return _bar("Done", job.input.pages, job.input.pages, "page", terminated=True)
    if job.state.final:
        return _bar(_reason(job), terminated=True)
    stage = cast("Stage", job.stage)
    if stage is Stage.QUEUED:
        place = f", place {job.queue_position}" if job.queue_position else ""
        return _bar(_WORDS[stage] + place)
    if stage is Stage.OCR:
        return _bar(_WORDS[stage], job.progress.pages_done, job.input.pages, "page")
    return _bar(_WORDS[stage], job.progress.percent, 100, "%")


def _bar(
    words: str,
    done: float = 0,
    total: int | None = None,
    unit: str | None = None,
    *,
    terminated: bool = False,
) -> dict[str, Any]:
    return {
        "total": total,
        "desc": words,
        "unit": unit,
        "progress_bar": done,
        "terminated": terminated,
    }


def _reason(job: Job) -> str:
    """Returns why a job ended without a result, and what to do."""
    assert job.failure is not None  # noqa: S101  # for the type checker
    known = errors.by_code().get(job.failure.code, errors.Internal)
    return _sentence(job.failure.message, known.advice)


def _sentence(detail: str, advice: str) -> str:
    return f"{detail.rstrip('.')}. {advice}"


def _dumped(body: object) -> str:
    return json.dumps(body, ensure_ascii=False)


def _store_last_job(client: str, job_id: str) -> None:
    with connection.translated_errors():
        connection.client().set(_last_job_key(client), job_id, ex=_LAST_JOB_SECONDS)


def _last_job_of(client: str) -> str | None:
    with connection.translated_errors():
        return cast("str | None", connection.client().get(_last_job_key(client)))


def _last_job_key(client: str) -> str:
    # Hashed, because the identification can be of any length and should not be stored.
    return _LAST_JOB_PREFIX + hashlib.sha256(client.encode()).hexdigest()
