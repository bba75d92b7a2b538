"""Recognition of repeated requests.

A client that did not receive the response sends its request again with the same Idempotency-Key
(draft-ietf-httpapi-idempotency-key-header-07), and gets the job that the first request created.
With OCR_REUSE_RESULTS, a document that the client sent before with the same options is not
processed again either.
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
class RequestIdentity:
    """What identifies a request and its repetitions.

    `key` is the Redis key of its Idempotency-Key, '' without one. `content` is the Redis key of its
    document and options, '' if results are not reused. `fingerprint` is a hash of both.
    """

    key: str
    content: str
    fingerprint: str

    def stored_value(self, job_id: str) -> str:
        """Returns the value to store under `key`."""
        return json.dumps([self.fingerprint, job_id])

    def job_of(self, stored: str) -> str:
        """Returns the id of the job of an earlier request from the value stored under `key`.

        Raises IdempotencyMismatch if that request was a different one.
        """
        fingerprint, job_id = json.loads(stored)
        if fingerprint != self.fingerprint:
            raise errors.IdempotencyMismatch()
        return str(job_id)


def request(
    owner: str, idempotency_key: str | None, sha256: str, options: str, reuse: bool = True
) -> RequestIdentity:
    """Returns what identifies a client's request.

    `sha256` is the hash of the uploaded bytes. `options` is everything else in the request, as
    JSON. `reuse` says whether the request accepts the results of an earlier job.
    """
    fingerprint = _digest(sha256, options)
    key = content = ""
    if idempotency_key is not None:
        key = keys.IDEMPOTENCY_PREFIX + _digest(owner, _clean(idempotency_key))
    if reuse and settings.get().reuse_results:
        content = keys.SAME_PREFIX + _digest(owner, fingerprint)
    return RequestIdentity(key, content, fingerprint)


def by_key(request: RequestIdentity) -> str | None:
    """Returns the id of the job that was created with the same Idempotency-Key, if there is one."""
    stored = _get(request.key)
    return request.job_of(stored) if stored else None


def by_content(request: RequestIdentity) -> str | None:
    """Returns the id of the client's last job with the same documents and options, if any."""
    return _get(request.content)


def remember_result(request: RequestIdentity, job_id: str) -> None:
    """Makes later requests with the same documents and options return this job."""
    if request.content:
        seconds = settings.get().keep_results_seconds or None
        connection.client().set(request.content, job_id, ex=seconds)


def _get(key: str) -> str | None:
    return cast("str | None", connection.client().get(key)) if key else None


def _clean(key: str) -> str:
    """Returns the key without the quotes of a structured field (RFC 8941), which are optional."""
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > _LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise errors.MalformedRequest(
            f"An Idempotency-Key must have 1 to {_LONGEST_KEY} printable ASCII characters"
        )
    return key


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
