"""Long polling and server-sent events: waiting for changes of a job."""

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

#: At most half of the threads may wait; the others stay free for other requests.
_slots = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))

#: Seconds between comments that keep an idle stream open through proxies. Waiting requests check
#: at the same interval whether their token is still valid.
HEARTBEAT = 15

#: Seconds between checks whether the client of a waiting request is still connected.
_POLL_SECONDS = 1


@contextmanager
def waiting_slot() -> Iterator[bool]:
    """Reserves a waiting slot for the block. Yields False if there is none."""
    acquired = _slots.acquire(blocking=False)
    try:
        yield acquired
    finally:
        if acquired:
            _slots.release()


def wait(job: Job, seconds: float) -> Job:
    """Returns the job after its next change or the timeout; at once if too many requests wait."""
    deadline = time.monotonic() + seconds
    before = job
    with waiting_slot() as may_wait:
        while may_wait and not _changed(job, before) and (left := deadline - time.monotonic()) > 0:
            job = lifecycle.wait(job.id, job.revision, min(left, HEARTBEAT))
            authentication.caller().check()
    return job


def wait_for_end(job: Job, seconds: float) -> Job:
    """Returns the job once it is final or after the timeout; at once if too many requests wait."""
    deadline = time.monotonic() + seconds
    with waiting_slot() as may_wait:
        while may_wait and not job.state.final and (left := deadline - time.monotonic()) > 0:
            job = lifecycle.wait(job.id, job.revision, min(left, HEARTBEAT))
            authentication.caller().check()
    return job


def wait_or_cancel(job: Job, request: Request) -> Job | None:
    """Returns the job once it is final, or None if the client closed the connection before.

    For clients that can get the result only with this response: the job is cancelled if the client
    disconnects or the server stops. While Redis is unavailable, waiting continues. The caller must
    hold a `waiting_slot`.
    """
    checked = time.monotonic()
    while not job.state.final:
        try:
            if slow_clients.has_left(request):
                _cancel(job)
                return None
            if slow_clients.is_stopping():
                _cancel(job)
                raise errors.ServerStopping()
            job = lifecycle.wait(job.id, job.revision, _POLL_SECONDS)
            if time.monotonic() - checked > HEARTBEAT:
                authentication.caller().check()
                checked = time.monotonic()
        except errors.QueueUnavailable:
            time.sleep(_POLL_SECONDS)
    return job


def _cancel(job: Job) -> None:
    with suppress(errors.StateError):  # it has just ended or been deleted
        lifecycle.cancel(job.id)


def stream(job: Job, last_event_id: str | None) -> Response:
    """Streams the job and each of its changes as `text/event-stream`, until the job is final.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. The event id is the
    job's revision. A client that reconnects with its last id continues without missing or repeated
    events. If it has already received the final state, the response is 204, which makes an
    EventSource stop reconnecting.
    """
    if job.state.final and last_event_id == str(job.revision):
        return Response(status=204)
    if not _slots.acquire(blocking=False):
        raise errors.TooManyConnections()
    events = _events(job, last_event_id, authentication.caller())
    response = Response(events, content_type="text/event-stream")
    response.call_on_close(_slots.release)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would delay events
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
            # Job deleted, token revoked, or Redis unavailable. The client reconnects and then gets
            # the error as the response.
            yield f": {error.code}\n\n"
            return
        yield _event(job) if _changed(job, previous) else ": still here\n\n"


def _changed(job: Job, before: Job) -> bool:
    return (job.revision, job.queue_position) != (before.revision, before.queue_position)


def _event(job: Job) -> str:
    return f"event: job\nid: {job.revision}\ndata: {JobBody.of(job).model_dump_json()}\n\n"
