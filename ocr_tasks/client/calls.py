"""What to ask the server, and what to make of its answers: everything but sending and waiting.

Each call is a generator. It yields what is to be done, an `Ask`, a `Pause` or a `Tell`, and gets an
`Answer`, or the error if there was none. `Client` and `AsyncClient` do it, each in its own way.
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
from ocr_tasks.client.problems import ApiError, seconds_of
from ocr_tasks.client.retries import Tries
from ocr_tasks.client.transfers import Transfer, receiving
from ocr_tasks.client.uploads import File, Option, Upload, opened

#: Seconds for which the server is to hold an answer until a job changes.
POLL_SECONDS = 20
#: Seconds without a byte after which a connection counts as lost; an upload is looked into before
#: it is answered.
_READ_SECONDS, _UPLOAD_SECONDS = POLL_SECONDS + 40, 600

TIMEOUT = httpx.Timeout(60, connect=10, read=_READ_SECONDS)


@dataclass(frozen=True)
class Ask:
    """A request. One that is `repeatable` may be sent again if nobody knows what came of it.

    What a `transfer` takes is not in the answer.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    upload: Upload | None = None
    transfer: Transfer | None = None

    def request(self) -> dict[str, Any]:
        """The arguments of httpx's `stream`, as they are at the moment."""
        more = self.transfer.headers() if self.transfer else {}
        found = {"method": self.method, "url": self.path, "headers": {**self.headers, **more}}
        if self.upload:
            timeout = httpx.Timeout(60, connect=10, read=_UPLOAD_SECONDS)
            return {**found, "files": self.upload.form, "timeout": timeout}
        return found


@dataclass(frozen=True)
class Pause:
    """Nothing is to be done for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """The listener is to hear of a job."""

    listener: Callable[[Job], object]
    job: Job


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> dict[str, Any]:
        """What it said, as it is to be from an OCR Tasks server.

        Raises:
            ApiError: if it is not.
        """
        try:
            told = json.loads(self.content)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            problem = {"detail": "That is no OCR Tasks server", "advice": "Check its address."}
            raise ApiError(self.status, problem)
        return told

    def job(self) -> Job:
        return Job.from_json(self.json())


Result = TypeVar("Result")
Step = Ask | Pause | Tell
Reply = Answer | httpx.TransportError | None
Call = Generator[Step, Reply, Result]


def insist(ask: Ask, patience: float) -> Call[Answer]:
    """The answer to a request that is no refusal, after as many tries as there is patience for.

    Raises:
        ApiError, httpx.TransportError
    """
    tries = Tries(patience)
    repeatable = ask.repeatable and (ask.upload is None or ask.upload.repeatable)
    while True:
        answer = yield ask
        if isinstance(answer, Answer) and (answer.status < 300 or answer.status == 304):
            return answer
        if ask.transfer and ask.transfer.moved:
            tries.succeed()
            ask.transfer.moved = False
        if isinstance(answer, Answer):
            failure = ApiError.of(answer.status, answer.headers, answer.content)
            if ask.upload and not ask.upload.repeatable:
                raise failure
            yield Pause(tries.fail(failure, repeatable))
        elif answer is not None:
            yield Pause(tries.fail(answer, repeatable))


def once(path: str) -> Call[Answer | None]:
    """The answer to a single question; None if there was none."""
    answer = yield Ask("GET", path)
    return answer if isinstance(answer, Answer) else None


def path_of(job_id: str, *words: str) -> str:
    """The address of something of a job."""
    return "/".join(("/v1/jobs", *(quote(word, safe="") for word in (job_id, *words))))


def submit(
    files: Sequence[File],
    options: Mapping[str, Option],
    idempotency_key: str | None,
    patience: float,
) -> Call[Job]:
    # The same key at each try: the server makes one job of them (draft-ietf-httpapi-idempotency-
    # key-header).
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    with opened(files, options) as upload:
        answer = yield from insist(
            Ask("POST", "/v1/jobs", headers=headers, upload=upload), patience
        )
    return answer.job()


def read(job_id: str, patience: float) -> Call[Job]:
    return (yield from insist(Ask("GET", path_of(job_id)), patience)).job()


def wait(
    job_id: str, listener: Callable[[Job], object], timeout: float | None, patience: float
) -> Call[Job]:
    deadline = None if timeout is None else time.monotonic() + timeout
    etag = ""
    while True:
        began = time.monotonic()
        seconds = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - began)
        if seconds <= 0:
            raise TimeoutError(f"job {job_id} has not ended within {timeout} seconds")
        # The first answer is to come at once.
        query, headers = (f"?wait={seconds:.3f}", {"If-None-Match": etag}) if etag else ("", {})
        answer = yield from insist(Ask("GET", path_of(job_id) + query, headers), patience)
        if answer.status != 304:
            etag = answer.headers.get("ETag", "")
            job = answer.job()
            yield Tell(listener, job)
            if job.ended:
                return job
        elif time.monotonic() - began < 1:  # the server holds as many answers as it can
            yield Pause(seconds_of(answer.headers.get("Retry-After", "")) or 1)
        if not etag:
            yield Pause(1)


def page_of_jobs(path: str, patience: float) -> Call[tuple[list[Job], str | None]]:
    """Some jobs, and the address of the ones after them."""
    body = (yield from insist(Ask("GET", path), patience)).json()
    return [Job.from_json(row) for row in body["jobs"]], body.get("next")


def first_page(state: str | None) -> str:
    """The address of the newest jobs."""
    return "/v1/jobs?" + urlencode({"limit": "200"} | ({"state": state} if state else {}))


def download(
    job_id: str, artifact: str, target: str | Path | BinaryIO, patience: float
) -> Call[None]:
    with receiving(target) as transfer:
        yield from insist(Ask("GET", path_of(job_id, artifact), transfer=transfer), patience)
        transfer.check()


def text(job_id: str, patience: float) -> Call[str]:
    return (yield from insist(Ask("GET", path_of(job_id, "text")), patience)).content.decode()


def cancel(job_id: str, patience: float) -> Call[Job]:
    try:
        return (yield from insist(Ask("POST", path_of(job_id, "cancel")), patience)).job()
    except ApiError as error:
        if error.code != "job_ended":
            raise
    return (yield from read(job_id, patience))


def retry(job_id: str, patience: float) -> Call[Job]:
    # Sent twice it could run a job twice that has failed again in between.
    ask = Ask("POST", path_of(job_id, "retry"), repeatable=False)
    return (yield from insist(ask, patience)).job()


def delete(job_id: str, patience: float) -> Call[None]:
    try:
        yield from insist(Ask("DELETE", path_of(job_id)), patience)
    except ApiError as error:
        if error.code != "job_deleted":  # by a try whose answer was lost
            raise
