"""A stream of server-sent events that goes on after it is broken.

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
from ocr_tasks.client.retries import Tries


class Following:
    """Where somebody is who follows a job: what to ask next, and whether there is more."""

    def __init__(self, job_id: str, last_event_id: str, patience: float) -> None:
        self.path = path_of(job_id, "events")
        self.ended = False
        self._last = last_event_id
        self._tries = Tries(patience)

    def headers(self) -> dict[str, str]:
        """What to ask with: it is to go on after the last event."""
        last = {"Last-Event-ID": self._last} if self._last else {}
        return {"Accept": "text/event-stream", "Cache-Control": "no-store", **last}

    def refused(self, status: int, headers: Mapping[str, str], content: bytes) -> float:
        """Seconds until the next try, after an answer that is no stream.

        Raises:
            ApiError
        """
        if status == 204:  # there is nothing after the last event
            self.ended = True
            return 0
        return self._tries.fail(ApiError.of(status, headers, content))

    def take(self, sent: ServerSentEvent) -> Event | None:
        """What an event of the stream tells, if it tells of the job."""
        self._tries.succeed()  # also signs of life
        if sent.event != "job":
            return None
        self._last = sent.id
        job = Job.from_json(json.loads(sent.data))
        self.ended = job.ended
        return Event(sent.id, job)

    def broken(self, error: httpx.TransportError | None = None) -> float:
        """Seconds until the next try, after a stream has ended.

        Raises:
            httpx.TransportError
        """
        if self.ended:
            return 0
        return self._tries.fail(error or httpx.ReadError("the stream ended before the job"))
