"""What both interfaces of the swarm do: hand pages out, take transcripts in, name other servers."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Collection
from pathlib import Path

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from ocr_tasks import errors, settings
from ocr_tasks.swarm import queue, transcripts
from ocr_tasks.swarm.model import Abilities, Accepted, Lease
from web.http import streaming

log = logging.getLogger(__name__)

#: Pages without an image that are passed over in one request.
_PASSED_OVER = 100

#: Servers that a device may have been sent on by.
MOST_VISITED = 20


def page_for(device: str, abilities: Abilities, seconds: int) -> tuple[Lease, Path] | None:
    """A page for a device with its image; one whose image is gone is set aside."""
    for _ in range(_PASSED_OVER):
        lease = queue.lease(device, abilities, seconds)
        if lease is None:
            return None
        try:
            image = transcripts.image_file(lease.page)
            if image.is_file():
                return lease, image
        except errors.PageWithdrawn:
            pass
        queue.set_aside(lease.id, "its image is gone")
    return None


def take(request: Request, accept: Callable[[], Accepted], form: transcripts.Sent) -> None:
    """Takes the transcript that a request brings, if `accept` does once it is here."""
    body = _body(request)  # however slowly it comes, it keeps nobody else's from being taken
    transcripts.take(accept(), body, form)


def _body(request: Request) -> bytes:
    most = settings.get().swarm_transcript_bytes
    request.max_content_length = most + 1
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise errors.TranscriptTooLarge(f"more than {most} bytes") from None


def refused(request: Request, error: errors.OcrTasksError) -> None:
    """Notes that a transcript was refused, as some clients do not look at answers."""
    log.warning("a transcript was refused: %s [%s]", error, error.code)
    streaming.read_away(request)


def another_server(here: str, visited: Collection[str]) -> tuple[str, list[str]] | None:
    """A server to ask where no page waits here, and those that it need not send anybody to.

    `here` is our own address as the client has it, `visited` are marks of servers it has been at.
    """
    marks = {mark(here), *visited}
    if len(marks) > MOST_VISITED:
        return None
    others = [peer for peer in settings.get().peers if mark(peer) not in marks]
    if not others:
        return None
    return random.choice(others), sorted(marks)  # noqa: S311  # no secret


def mark(address: str) -> str:
    """A short mark of a server's address."""
    return hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:12]
