"""A stream of server-sent events that reconnects after a lost connection.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
from httpx_sse import ServerSentEvent

from ocr_tasks.client.calls import path_of
from ocr_tasks.client.models import Event, Job
from ocr_tasks.client.problems import ApiError
from ocr_tasks.client.retries import Retries


class EventStream:
    """The state of a subscription to a job's events: the last event, the retries, and the end."""

    def __init__(self, job_id: str, last_event_id: str, patience: float) -> None:
        self.path = path_of(job_id, "events")
        self.ended = False
        self._last_event_id = last_event_id
        self._retries = Retries(patience)

    def headers(self) -> dict[str, str]:
        """Returns the request headers, which resume the stream after the last event."""
        last = {"Last-Event-ID": self._last_event_id} if self._last_event_id else {}
        return {"Accept": "text/event-stream", "Cache-Control": "no-store", **last}

    def on_response(self, status: int, headers: Mapping[str, str], content: bytes) -> float:
        """Handles a response that is not a stream. Returns the seconds until the next request.

        Raises:
            ApiError: if the request must not be repeated, or has failed for too long.
        """
        if status == 204:  # there are no events after the last one
            self.ended = True
            return 0
        return self._retries.next_pause(ApiError.of(status, headers, content))

    def on_event(self, event: ServerSentEvent) -> Event | None:
        """Handles an event of the stream. Returns it if it is a change of the job."""
        self._retries.reset()  # keep-alive events count too
        if event.event != "job":
            return None
        self._last_event_id = event.id
        job = Job.from_json(json.loads(event.data))
        self.ended = job.ended
        return Event(event.id, job)

    def on_disconnect(self, error: httpx.TransportError | None = None) -> float:
        """Handles the end of a stream. Returns the seconds until the next request.

        Raises:
            httpx.TransportError: if the server has been unreachable for too long.
        """
        if self.ended:
            return 0
        return self._retries.next_pause(
            error or httpx.ReadError("the event stream ended before the job did")
        )
