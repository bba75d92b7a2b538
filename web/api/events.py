"""Waiting for a change of a job: long polls and server-sent events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Request, Response

from ocr_tasks import errors, settings
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Job
from web.access import authentication
from web.http import slow_clients
from web.http.schemas import JobBody

#: Half of the threads may wait; the other half always answers at once.
_places = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))

#: Seconds between two comments that keep a quiet stream open through proxies. As often a request
#: that waits looks whether its token is still good.
HEARTBEAT = 15

#: Seconds between two looks whether the client of a request that waits is still there.
_LOOK = 1


@contextmanager
def place() -> Iterator[bool]:
    """Whether this request may wait, for the time of the block."""
    got = _places.acquire(blocking=False)
    try:
        yield got
    finally:
        if got:
            _places.release()


def wait(job: Job, seconds: float) -> Job:
    """Returns the job after its next change or the time-out; at once if too many requests wait."""
    deadline = time.monotonic() + seconds
    before = job
    with place() as may_wait:
        while may_wait and not _changed(job, before) and (left := deadline - time.monotonic()) > 0:
            job = lifecycle.wait(job.id, job.revision, min(left, HEARTBEAT))
            authentication.caller().check()
    return job


def wait_for_end(job: Job, seconds: float) -> Job:
    """The job when it has ended, or after so many seconds; as it is if too many wait already."""
    deadline = time.monotonic() + seconds
    with place() as may_wait:
        while may_wait and not job.state.final and (left := deadline - time.monotonic()) > 0:
            job = lifecycle.wait(job.id, job.revision, min(left, HEARTBEAT))
            authentication.caller().check()
    return job


def stay(job: Job, asked: Request) -> Job | None:
    """The job when it has ended; None: its client has closed the connection before.

    For a client that gets the result by this answer or never: if it goes away or the server is
    stopped, the job is cancelled. While Redis is away it is waited on. Who calls holds a `place`.
    """
    checked = time.monotonic()
    while not job.state.final:
        try:
            if slow_clients.has_left(asked):
                _cancel(job)
                return None
            if slow_clients.is_stopping():
                _cancel(job)
                raise errors.ServerStopping()
            job = lifecycle.wait(job.id, job.revision, _LOOK)
            if time.monotonic() - checked > HEARTBEAT:
                authentication.caller().check()
                checked = time.monotonic()
        except errors.QueueUnavailable:
            time.sleep(_LOOK)
    return job


def _cancel(job: Job) -> None:
    with suppress(errors.StateError):  # it has ended, or was deleted, a moment ago
        lifecycle.cancel(job.id)


def stream(job: Job, last_event_id: str | None) -> Response:
    """The job, and each change of it, as `text/event-stream`; ends after the job has ended.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. The id of an event is
    the job's revision, so a client that comes back with its last one misses nothing and gets
    nothing twice. After the end there is nothing to stream: 204, which stops an EventSource.
    """
    if job.state.final and last_event_id == str(job.revision):
        return Response(status=204)
    if not _places.acquire(blocking=False):
        raise errors.TooManyWaiting()
    events = _events(job, last_event_id, authentication.caller())
    response = Response(events, content_type="text/event-stream")
    response.call_on_close(_places.release)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    return response


def _events(job: Job, last_event_id: str | None, caller: authentication.Caller) -> Iterator[str]:
    deadline = time.monotonic() + settings.get().stream_seconds
    yield "retry: 2000\n\n"
    if last_event_id != str(job.revision):
        yield _event(job)
    while not job.state.final and (left := deadline - time.monotonic()) > 0:
        previous = job
        try:
            job = lifecycle.wait(job.id, job.revision, min(HEARTBEAT, left))
            caller.check()
        except errors.OcrTasksError as error:
            # Deleted or revoked, or Redis is away. The client comes back and gets it as an answer.
            yield f": {error.code}\n\n"
            return
        yield _event(job) if _changed(job, previous) else ": still here\n\n"


def _changed(job: Job, before: Job) -> bool:
    return (job.revision, job.queue_position) != (before.revision, before.queue_position)


def _event(job: Job) -> str:
    return f"event: job\nid: {job.revision}\ndata: {JobBody.of(job).model_dump_json()}\n\n"
