"""Which job a client sent last, for clients that ask for it without saying which."""

from __future__ import annotations

import hashlib
from typing import cast

from ocr_tasks import keys, redis_client

#: Seconds for which it is remembered.
_KEPT = 24 * 3600


def remember(client: str, job_id: str) -> None:
    """Has this be the last job of a client, whatever it is known by.

    Raises:
        errors.QueueUnavailable
    """
    with redis_client.errors_as_ours():
        redis_client.client().set(_key(client), job_id, ex=_KEPT)


def job_of(client: str) -> str | None:
    """The id of the last job of a client; None: it has sent none, or not lately.

    Raises:
        errors.QueueUnavailable
    """
    with redis_client.errors_as_ours():
        return cast("str | None", redis_client.client().get(_key(client)))


def _key(client: str) -> str:
    # What clients say of themselves is as long as they like, and nothing to be kept.
    return keys.LATEST_PREFIX + hashlib.sha256(client.encode()).hexdigest()
