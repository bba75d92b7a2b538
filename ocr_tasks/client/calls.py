"""The requests of the client and the handling of responses, without I/O.

Each call is a generator. It yields steps (`Request`, `Pause` or `Notify`), which `Client` and
`AsyncClient` execute. They send back the `Response` to a request, or the error if there is none.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

import httpx

from ocr_tasks.client.models import Job
from ocr_tasks.client.problems import ApiError, parse_retry_after
from ocr_tasks.client.retries import Retries
from ocr_tasks.client.transfers import Transfer, open_transfer
from ocr_tasks.client.uploads import File, Option, Upload, open_form

#: Seconds for which the server delays a response until a job changes (long polling).
POLL_SECONDS = 20

#: Seconds without a byte after which a connection counts as lost. The server checks an upload
#: before it responds, which takes longer.
_READ_SECONDS, _UPLOAD_SECONDS = POLL_SECONDS + 40, 600

TIMEOUT = httpx.Timeout(60, connect=10, read=_READ_SECONDS)


@dataclass(frozen=True)
class Request:
    """A request to send. `repeatable` is true if it may be executed twice.

    If there is a `transfer`, it gets the body of the response, and `Response.content` is empty.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    upload: Upload | None = None
    transfer: Transfer | None = None

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments for httpx's `stream`. The headers depend on the bytes received."""
        headers = {**self.headers, **(self.transfer.headers() if self.transfer else {})}
        arguments = {"method": self.method, "url": self.path, "headers": headers}
        if self.upload:
            timeout = httpx.Timeout(60, connect=10, read=_UPLOAD_SECONDS)
            return {**arguments, "files": self.upload.form, "timeout": timeout}
        return arguments


@dataclass(frozen=True)
class Pause:
    """A pause in seconds."""

    seconds: float


@dataclass(frozen=True)
class Notify:
    """A call of the listener with a job."""

    listener: Callable[[Job], object]
    job: Job


@dataclass(frozen=True)
class Response:
    """A response of the server, with its whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> dict[str, Any]:
        """Returns the body as a JSON object.

        Raises:
            ApiError: if it is not one, because the server is not an OCR Tasks server.
        """
        try:
            body = json.loads(self.content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            problem = {"detail": "This is not an OCR Tasks server", "advice": "Check the URL."}
            raise ApiError(self.status, problem)
        return body

    def job(self) -> Job:
        return Job.from_json(self.json())


Result = TypeVar("Result")
Step = Request | Pause | Notify
Reply = Response | httpx.TransportError | None
Call = Generator[Step, Reply, Result]


def send_with_retries(request: Request, patience: float) -> Call[Response]:
    """Sends a request until it succeeds. Returns the response.

    Raises:
        ApiError, httpx.TransportError: if the request must not be repeated, or has failed for
            `patience` seconds.
    """
    retries = Retries(patience)
    repeatable = request.repeatable and (request.upload is None or request.upload.repeatable)
    while True:
        reply = yield request
        if isinstance(reply, Response) and (reply.status < 300 or reply.status == 304):
            return reply
        if request.transfer and request.transfer.progressed:
            retries.reset()
            request.transfer.progressed = False
        if isinstance(reply, Response):
            failure = ApiError.of(reply.status, reply.headers, reply.content)
            if request.upload and not request.upload.repeatable:
                raise failure
            yield Pause(retries.next_pause(failure, repeatable))
        elif reply is not None:
            yield Pause(retries.next_pause(reply, repeatable))


def get_once(path: str) -> Call[Response | None]:
    """Sends a GET request without retries. Returns None if there is no response."""
    reply = yield Request("GET", path)
    return reply if isinstance(reply, Response) else None


def path_of(job_id: str, *segments: str) -> str:
    """Returns the URL path of a job, or of a resource below it."""
    return "/".join(("/v1/jobs", *(quote(text, safe="") for text in (job_id, *segments))))


def submit(
    files: Sequence[File],
    options: Mapping[str, Option],
    idempotency_key: str | None,
    patience: float,
) -> Call[Job]:
    # All attempts send the same key, so the server creates only one job
    # (draft-ietf-httpapi-idempotency-key-header).
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    with open_form(files, options) as upload:
        request = Request("POST", "/v1/jobs", headers=headers, upload=upload)
        response = yield from send_with_retries(request, patience)
    return response.job()


def get_job(job_id: str, patience: float) -> Call[Job]:
    return (yield from send_with_retries(Request("GET", path_of(job_id)), patience)).job()


def wait(
    job_id: str, listener: Callable[[Job], object], timeout: float | None, patience: float
) -> Call[Job]:
    deadline = None if timeout is None else time.monotonic() + timeout
    etag = ""
    while True:
        started = time.monotonic()
        seconds = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - started)
        if seconds <= 0:
            raise TimeoutError(f"job {job_id} has not ended within {timeout} seconds")
        # The first request does not wait for a change.
        query, headers = (f"?wait={seconds:.3f}", {"If-None-Match": etag}) if etag else ("", {})
        request = Request("GET", path_of(job_id) + query, headers)
        response = yield from send_with_retries(request, patience)
        if response.status != 304:
            etag = response.headers.get("ETag", "")
            job = response.job()
            yield Notify(listener, job)
            if job.ended:
                return job
        elif time.monotonic() - started < 1:  # the server has too many long polls already
            yield Pause(parse_retry_after(response.headers.get("Retry-After", "")) or 1)
        if not etag:
            yield Pause(1)


def page_of_jobs(path: str, patience: float) -> Call[tuple[list[Job], str | None]]:
    """Returns a page of jobs, and the URL path of the next page, None after the last one."""
    body = (yield from send_with_retries(Request("GET", path), patience)).json()
    return [Job.from_json(row) for row in body["jobs"]], body.get("next")


def first_page(state: str | None) -> str:
    """Returns the URL path of the first page of jobs, newest first, optionally in one state."""
    return "/v1/jobs?" + urlencode({"limit": "200"} | ({"state": state} if state else {}))


def download(
    job_id: str, artifact: str, target: str | Path | BinaryIO, patience: float
) -> Call[None]:
    with open_transfer(target) as transfer:
        request = Request("GET", path_of(job_id, artifact), transfer=transfer)
        yield from send_with_retries(request, patience)
        transfer.check()


def text(job_id: str, patience: float) -> Call[str]:
    request = Request("GET", path_of(job_id, "text"))
    return (yield from send_with_retries(request, patience)).content.decode()


def cancel(job_id: str, patience: float) -> Call[Job]:
    try:
        request = Request("POST", path_of(job_id, "cancel"))
        return (yield from send_with_retries(request, patience)).job()
    except ApiError as error:
        if error.code != "job_ended":
            raise
    return (yield from get_job(job_id, patience))


def retry(job_id: str, patience: float) -> Call[Job]:
    # If the request were executed twice, a job that failed again in between would run twice.
    request = Request("POST", path_of(job_id, "retry"), repeatable=False)
    return (yield from send_with_retries(request, patience)).job()


def delete(job_id: str, patience: float) -> Call[None]:
    try:
        yield from send_with_retries(Request("DELETE", path_of(job_id)), patience)
    except ApiError as error:
        if error.code != "job_deleted":  # by an earlier attempt whose response was lost
            raise
