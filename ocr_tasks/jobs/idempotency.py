"""Requests that come twice.

A client that did not get an answer sends its request again, under the same Idempotency-Key
(draft-ietf-httpapi-idempotency-key-header-07), and gets the job that the first one made. And where
the operator wants it (OCR_REUSE_RESULTS), a document that was read before is not read again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import cast

from ocr_tasks import errors, settings
from ocr_tasks.redis import connection, keys

_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come again. `key` and `content` are keys in Redis, '' where not wanted.

    `fingerprint` tells its documents and options from others.
    """

    key: str
    content: str
    fingerprint: str

    def remembered(self, job_id: str) -> str:
        """What is remembered under its key."""
        return json.dumps([self.fingerprint, job_id])

    def job_of(self, remembered: str) -> str:
        """The id of the job that an earlier request under its key has made."""
        fingerprint, job_id = json.loads(remembered)
        if fingerprint != self.fingerprint:
            raise errors.IdempotencyMismatch()
        return str(job_id)


def request(
    owner: str, idempotency_key: str | None, sha256: str, options: str, reuse: bool = True
) -> Repeatable:
    """What a client's request can be known by again.

    `sha256` is over the uploaded bytes, `options` is whatever else it asks for, as JSON. `reuse`:
    an earlier job would do.
    """
    fingerprint = _digest(sha256, options)
    key = content = ""
    if idempotency_key is not None:
        key = keys.IDEMPOTENCY_PREFIX + _digest(owner, _clean(idempotency_key))
    if reuse and settings.get().reuse_results:
        content = keys.SAME_PREFIX + _digest(owner, fingerprint)
    return Repeatable(key, content, fingerprint)


def by_key(request: Repeatable) -> str | None:
    """The id of the job that was made under the same key."""
    found = _get(request.key)
    return request.job_of(found) if found else None


def by_content(request: Repeatable) -> str | None:
    """The id of the last job of the same client with the same documents and options."""
    return _get(request.content)


def remember_result(request: Repeatable, job_id: str) -> None:
    """Has the next request with the same documents and options get this job."""
    if request.content:
        seconds = settings.get().keep_results_seconds or None
        connection.client().set(request.content, job_id, ex=seconds)


def _get(key: str) -> str | None:
    return cast("str | None", connection.client().get(key)) if key else None


def _clean(key: str) -> str:
    """The key without the quotes of a structured field (RFC 8941); clients leave them out too."""
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise errors.MalformedRequest(
            f"an Idempotency-Key has 1 to {_LONGEST_KEY} printable ASCII characters"
        )
    return key


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
