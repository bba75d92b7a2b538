"""Shared code of both swarm interfaces: leases, transcripts, and referrals to other servers."""

from __future__ import annotations

import hashlib
import logging
import random
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from ocr_tasks import errors
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import queue, transcripts
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import Abilities, Accepted, Lease
from web.http import streaming

log = logging.getLogger(__name__)

#: Maximum number of pages without an image that are skipped in one request.
_MAX_SKIPPED = 100

#: Maximum number of servers that can refer a device in a row.
MAX_VISITED = 20

#: What `mark` returns.
_MARK = re.compile("[0-9a-f]{12}", re.ASCII)


def lease_page(
    device: str, abilities: Abilities, seconds: int, overdue_seconds: int = 0
) -> tuple[Lease, Path] | None:
    """Leases a page to a device (see `queue.lease`); returns the lease and the image, or None.

    Pages whose image is gone are set aside.
    """
    for _ in range(_MAX_SKIPPED):
        lease = queue.lease(device, abilities, seconds, overdue_seconds)
        if lease is None:
            return None
        try:
            image = transcripts.image_file(lease.page)
            if image.is_file():
                return lease, image
        except swarm_errors.PageWithdrawn:
            pass
        queue.set_aside(lease.id, "its image is gone")
    return None


def receive_transcript(
    request: Request, accept: Callable[[], Accepted], form: transcripts.Sent
) -> None:
    """Receives the transcript in a request, calls `accept`, and stores the transcript."""
    body = _body(request)  # received first: a slow client must not block other transcripts
    transcripts.take(accept(), body, form)


def _body(request: Request) -> bytes:
    most = swarm_settings.get().swarm_transcript_bytes
    request.max_content_length = most + 1
    try:
        return streaming.read_small(cast("streaming.UploadRequest", request))
    except RequestEntityTooLarge:
        raise swarm_errors.TranscriptTooLarge(
            f"The transcript is larger than {most} bytes"
        ) from None


def log_rejection(request: Request, error: errors.OcrTasksError) -> None:
    """Logs that a transcript was rejected, and reads the rest of the request.

    It is logged because some clients ignore the response.
    """
    log.warning("transcript rejected: %s [%s]", error, error.code)
    streaming.drain(request)


def another_server(
    here: str, visited: Collection[str], with_docr: bool = False
) -> tuple[str, list[str]] | None:
    """Returns another server that may have pages, and the marks of all visited servers, or None.

    `here` is this server's URL as seen by the client; `visited` contains the marks of servers that
    the client has already tried. `with_docr` includes docr/smd servers, whose URLs contain a path.

    The marks include that of the returned server: it may know itself under another URL, e.g. behind
    a proxy, and would otherwise be returned again.
    """
    marks = {mark(here), *filter(_MARK.fullmatch, visited)}
    if len(marks) > MAX_VISITED:
        return None
    others = [
        peer
        for peer in swarm_settings.get().swarm_peers
        if mark(peer) not in marks and (with_docr or not is_docr(peer))
    ]
    if not others:
        return None
    peer = random.choice(others)  # noqa: S311  # no secret
    return peer, sorted({*marks, mark(peer)})


def is_docr(peer: str) -> bool:
    """Returns whether a URL is that of a docr/smd server, which contains a path."""
    return bool(urlsplit(peer).path)


def mark(url: str) -> str:
    """Returns a short hash of a server's URL without the scheme, which a proxy may change."""
    parts = urlsplit(url.rstrip("/"))
    host = parts.netloc.lower().removesuffix(":80").removesuffix(":443")
    return hashlib.sha256(f"{host}{parts.path}".encode()).hexdigest()[:12]
