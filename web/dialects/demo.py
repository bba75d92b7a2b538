"""OCR with progress: the routes of a demo of OCRmyPDF's progress bar, for its page.

Wire facts are those of https://github.com/QuentinFuxa/ocrmypdf-plugin-progress
(`fastapi-endpoints.py`, `src/ocr_functions.py`, and `src/demo.html`, the page). It asks for the
progress without saying of what, so that is of the job that its browser sent last. It shows `desc`,
then `progress_bar / total unit`, and knows no failure but the want of a link: so a failure is told
in `desc` as well.
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

blueprint = APIBlueprint(
    "demo",
    __name__,
    url_prefix="/ocr-pdf",
    abp_tags=[Tag(name="OCR with progress", description="For the page of that demo")],
)

#: What tells browsers behind one address apart. It is no secret, and shows nobody's documents.
_COOKIE = "ocr_demo"

#: What the page shows of a stage, in the words of OCRmyPDF's progress bars.
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

_FORM = file_form("name", "Its name, if it should be another.")


class ResultPath(BaseModel):
    job_id: str = Field(description="Id of the job, as POST /ocr-pdf gave it.")


class DownloadPath(BaseModel):
    filename: str = Field(description="Id of the job and `_ocr.pdf`.")


@blueprint.after_request
def _in_its_shape(response: Response) -> Response:
    """Has every error told as the original does."""
    if response.mimetype == "application/problem+json":
        problem = json.loads(response.get_data())
        text = _sentence(problem["detail"], problem["advice"])
        response.set_data(_dumped({"error": text, "code": problem["code"]}))
        response.content_type = "application/json"
    return response


@blueprint.post("", openapi_extensions={"requestBody": _FORM})
def create() -> Response:
    """Send a PDF or an image. All of its pages are made images and read, as with mode=force."""
    upload = cast("streaming.UploadRequest", request)
    with submission.admitting(upload) as caller:
        limits = receive.Limits(settings.get().max_upload_bytes, files=1)
        incoming, form = streaming.read(upload, limits=limits)
        name = form.pop("name", [""])[0]
        if form:
            raise errors.MalformedRequest("besides `file` there is one field, `name`")
        if name and incoming.names:
            incoming.names[0] = name
        chosen = options.from_dict({"mode": "force"})
        job = submission.submit(caller, incoming, chosen, reuse=False)
    _remember(job)
    return _json({"id": job.id})


@blueprint.get("/progress/")
def progress() -> Response:
    """How far the job is that this browser sent last; {} if it has sent none."""
    job_id = _last_job_of(_browser())
    if job_id is None:
        return _json({})
    try:
        job = lifecycle.read(job_id, authentication.caller().sees)
    except errors.StateError as error:
        return _json(_bar(_sentence(error.detail, error.advice), terminated=True))
    return _json(_progress(job))


@blueprint.get("/results/<job_id>")
def results(path: ResultPath) -> Response:
    """Whether a job has ended, and where its PDF is; `error` says why there is none."""
    job = lifecycle.read(path.job_id, authentication.caller().sees)
    if not job.state.final:
        return _json({"extracted_text": "", "finished": False, "download_url": ""})
    if job.state is not State.SUCCEEDED:
        return _json({"finished": True, "download_url": "", "error": _reason(job)})
    address = f"{blueprint.url_prefix}/download/{job.id}{_ENDING}"
    return _json({"finished": True, "download_url": address})


@blueprint.get("/download/<filename>")
def download(path: DownloadPath) -> Response:
    """The PDF of a job."""
    job_id = path.filename.removesuffix(_ENDING)
    if job_id == path.filename:
        raise errors.NotFound()
    job = lifecycle.read(job_id, authentication.caller().sees)
    return downloads.artifact(job, "pdf", "result.pdf")


def _remember(job: Job) -> None:
    """Notes the last job of this browser, and gives it a cookie to be known by.

    A page of another site gets none: it is known by its address and program, as others may be.
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
    """Why a job ended without a result, and what to do."""
    assert job.failure is not None  # noqa: S101  # for the type checker
    known = errors.by_code().get(job.failure.code, errors.Internal)
    return _sentence(job.failure.message, known.advice)


def _sentence(detail: str, advice: str) -> str:
    return f"{detail.rstrip('.')}. {advice}"


def _json(body: object) -> Response:
    response = Response(_dumped(body), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _dumped(body: object) -> str:
    return json.dumps(body, ensure_ascii=False)


def _store_last_job(client: str, job_id: str) -> None:
    with connection.errors_as_ours():
        connection.client().set(_last_job_key(client), job_id, ex=_LAST_JOB_SECONDS)


def _last_job_of(client: str) -> str | None:
    with connection.errors_as_ours():
        return cast("str | None", connection.client().get(_last_job_key(client)))


def _last_job_key(client: str) -> str:
    # What clients say of themselves can be of any length, and must not be stored.
    return _LAST_JOB_PREFIX + hashlib.sha256(client.encode()).hexdigest()
