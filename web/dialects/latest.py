"""Which job a client sent last, for clients that ask for it without saying which."""

from __future__ import annotations

import hashlib
from typing import cast

from ocr_tasks.redis import connection, keys

#: Seconds for which it is remembered.
_KEPT = 24 * 3600


def remember(client: str, job_id: str) -> None:
    """Has this be the last job of a client, whatever it is known by."""
    with connection.errors_as_ours():
        connection.client().set(_key(client), job_id, ex=_KEPT)


def job_of(client: str) -> str | None:
    """The id of the last job of a client; None: it has sent none, or not lately."""
    with connection.errors_as_ours():
        return cast("str | None", connection.client().get(_key(client)))


def _key(client: str) -> str:
    # What clients say of themselves is as long as they like, and nothing to be kept.
    return keys.LATEST_PREFIX + hashlib.sha256(client.encode()).hexdigest()
