"""/v1/jobs. Each route parses the request, calls `ocr_tasks`, and serializes the result."""

from __future__ import annotations

import hashlib
import re
from typing import Any, cast

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from ocr_tasks import errors, options, settings, webhooks
from ocr_tasks.formats import hocr, text
from ocr_tasks.formats.page import Page
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Job
from ocr_tasks.storage import layout, store
from ocr_tasks.uploads import tus
from web.access import authentication
from web.api import events, from_uploads, submission
from web.http import downloads, streaming
from web.http.forms import submit_form
from web.http.responses import json_response
from web.http.schemas import (
    ArtifactPath,
    JobBody,
    JobListBody,
    JobPath,
    JobQuery,
    ListQuery,
    PageBody,
    PageListBody,
    PagePath,
    ProblemBody,
)

blueprint = APIBlueprint(
    "jobs",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="Jobs", description="OCR of documents")],
    abp_responses={"default": ProblemBody},
)

_PREFER_WAIT = re.compile(r"(?:^|[\s,;])wait=(\d{1,4})\b")


# Submit and list


@blueprint.post("", responses={202: JobBody}, openapi_extensions={"requestBody": submit_form()})
def create() -> Response:
    """Create a job.

    Several files become one PDF. Instead of files, send `upload` with the ids of finished uploads
    of /v1/uploads, or `workspace` with the id of an OCR-D workspace: its images are processed, and
    the results are added to it as file groups. `Prefer: wait=N` delays the response until the job
    has ended, for at most N seconds. With an `Idempotency-Key`, a request can be repeated safely:
    the response is then the job that already exists.
    """
    upload = cast("streaming.UploadRequest", request)
    with submission.admitting(upload) as caller:
        incoming, form = streaming.read(upload)
        upload_ids = from_uploads.pop_ids(incoming, form)
        source = submission.source(incoming, form, caller.sees)
        callback = webhooks.callback_of(form)
        chosen = options.parse(form)
        if source:
            source.check(chosen)
        linked = from_uploads.link(incoming, upload_ids, caller.sees)
        job = submission.submit(
            caller,
            incoming,
            chosen,
            idempotency_key=request.headers.get("Idempotency-Key"),
            callback=callback,
            source=source,
        )
        tus.mark_as_job(linked, job.id, incoming.fingerprint)
    preferred = _PREFER_WAIT.search(request.headers.get("Prefer", ""))
    if preferred:
        job = events.wait_for_end(job, min(int(preferred[1]), settings.get().wait_max))
    response = _response(job, 202)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if preferred:
        response.headers["Preference-Applied"] = f"wait={preferred[1]}"
    return response


@blueprint.get("", responses={200: JobListBody})
def index(query: ListQuery) -> Response:
    """List jobs, newest first."""
    found = lifecycle.list_jobs(
        query.state, query.limit, query.cursor, authentication.caller().sees
    )
    following = None
    if found.next_cursor:
        state = f"&state={query.state}" if query.state else ""
        following = f"/v1/jobs?limit={query.limit}&cursor={found.next_cursor}{state}"
    body = JobListBody(jobs=[JobBody.of(job) for job in found.jobs], next=following)
    response = json_response(body)
    if following:
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response


# One job


@blueprint.get("/<job_id>", responses={200: JobBody})
def show(path: JobPath, query: JobQuery) -> Response:
    """Get a job.

    `wait` long-polls: the response is sent when the job changes, or after this many seconds.
    """
    job = _read(path)
    response = _response(job, 200)
    if query.wait and not job.state.final and _is_known(response):
        wait = min(query.wait, settings.get().wait_max)
        response = _response(events.wait(job, wait), 200)
    return cast("Response", response.make_conditional(request))


@blueprint.get("/<job_id>/events")
def follow(path: JobPath) -> Response:
    """Follow a job with server-sent events.

    Each event is named `job` and contains the whole job. To resume, send the id of the last event
    as `Last-Event-ID`.
    """
    return events.stream(_read(path), request.headers.get("Last-Event-ID"))


@blueprint.post("/<job_id>/cancel", responses={200: JobBody})
def cancel(path: JobPath) -> Response:
    """Cancel a queued or running job."""
    return _response(lifecycle.cancel(path.job_id, authentication.caller().sees), 200)


@blueprint.post("/<job_id>/retry", responses={202: JobBody})
def retry(path: JobPath) -> Response:
    """Run a job again.

    The job must have failed, been cancelled, or have failed pages. Pages that are already done are
    not processed again.
    """
    caller = authentication.caller()
    return _response(lifecycle.retry(path.job_id, caller.sees, caller.max_waiting_jobs), 202)


@blueprint.post("/<job_id>/callback", responses={202: JobBody})
def call_back(path: JobPath) -> Response:
    """Send the webhook of an ended job to its `callback_url` again."""
    job = lifecycle.read(path.job_id, authentication.caller().sees)
    webhooks.replay(job)
    return _response(job, 202)


@blueprint.delete("/<job_id>", responses={204: None})
def delete(path: JobPath) -> Response:
    """Delete a job with its files. A job that has not ended is cancelled first."""
    lifecycle.delete(path.job_id, authentication.caller().sees)
    return Response(status=204)


# Results


@blueprint.get("/<job_id>/log")
def log(path: JobPath) -> Response:
    """Download OCRmyPDF's log of a job."""
    job = _read(path)
    file = store.get().open(job.id, layout.LOG)
    if file is None:
        return Response("", content_type="text/plain; charset=utf-8")
    return downloads.file(file, "text/plain; charset=utf-8", None, etag=True)


@blueprint.get("/<job_id>/pages", responses={200: PageListBody})
def pages(path: JobPath) -> Response:
    """List the pages of a job with their states."""
    job = _read(path)
    failed = {row.page for row in job.outcome.failed_pages} if job.outcome else set()
    read = store.page_summaries(job.id, job.input.pages)
    body = PageListBody(
        pages=[
            _page_body(number, read.get(number), number in failed)
            for number in range(1, job.input.pages + 1)
        ]
    )
    return json_response(body)


@blueprint.get("/<job_id>/pages/<int:page>/text")
def page_text(path: PagePath) -> Response:
    """Download the text of a page, as soon as the page is done."""
    page = _page(path)
    content = text.page_text(page)
    return Response(content, content_type="text/plain; charset=utf-8")


@blueprint.get("/<job_id>/pages/<int:page>/hocr")
def page_hocr(path: PagePath) -> Response:
    """Download a page as hOCR (words with positions), as soon as the page is done."""
    content = hocr.page(_page(path), f"Page {path.page}", "OCR Tasks")
    return Response(content, content_type="application/xhtml+xml")


@blueprint.get("/<job_id>/pages/<int:page>/image")
def page_image(path: PagePath) -> Response:
    """Download a small image of a page, as soon as the page is done."""
    job = _job_with_page(path)
    file = store.get().open(job.id, f"pages/{path.page:06d}/preview.jpg")
    if file is None:
        raise errors.ArtifactNotFound() if job.state.final else errors.PageNotReady()
    return downloads.file(file, "image/jpeg", None, etag=True)


# Registered last, because the rule matches any last path segment.
@blueprint.get("/<job_id>/<artifact>")
def artifact(path: ArtifactPath) -> Response:
    """Download a result of a job: `pdf`, `text`, `hocr`, `alto` or `json`."""
    if path.artifact not in layout.ARTIFACTS:
        raise errors.NotFound()
    return downloads.artifact(_read(path), path.artifact)


def _read(path: JobPath) -> Job:
    return lifecycle.read(path.job_id, authentication.caller().sees)


def _response(job: Job, status: int) -> Response:
    response = json_response(JobBody.of(job), status, cache="private, no-cache")
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    if not job.state.final:
        response.headers["Retry-After"] = "1" if job.started_at else "2"
    return response


def _is_known(response: Response) -> bool:
    """Returns whether the client already has this response, or sent no If-None-Match."""
    known = request.if_none_match
    return not known or known.contains(response.get_etag()[0] or "")


def _job_with_page(path: PagePath) -> Job:
    job = _read(path)
    if path.page > job.input.pages:
        raise errors.PageNotFound(f"The document has {job.input.pages} pages")
    return job


def _page(path: PagePath) -> Page:
    job = _job_with_page(path)
    page = store.page(job.id, path.page)
    if page is None:
        raise errors.ResultGone() if job.state.final else errors.PageNotReady()
    return page


def _page_body(number: int, summary: dict[str, Any] | None, failed: bool) -> PageBody:
    if failed or (summary and summary["failed"]):
        return PageBody(page=number, state="failed", confidence=None, words=None, worker=None)
    if summary is None:
        return PageBody(page=number, state="waiting", confidence=None, words=None, worker=None)
    return PageBody(
        page=number,
        state="done" if summary["source"] == "ocr" else "kept",
        confidence=summary["confidence"],
        words=summary["words"],
        worker=summary["worker"],
    )
