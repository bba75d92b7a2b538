"""API tokens: made, listed, revoked, verified.

A token is `ocrt_<id>_<secret>`. The id is public and names the owner of jobs. The secret has 256
random bits, of which Redis holds only the SHA-256: so many bits cannot be guessed, so that a slow
hash would add nothing but time to each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from redis import RedisError

from ocr_tasks import errors
from ocr_tasks.model import TOKEN_TEXT, Scope, Token
from ocr_tasks.redis import connection, keys

#: A token may have limits of its own for these; the settings are called OCR_LIMIT_….
LIMITS = ("requests_minute", "submits_minute", "pages_day", "waiting_jobs", "open_uploads")

#: Seconds between two writes of the time at which a token was used.
USED_EVERY = 60

#: Compared with where there is no token, so that this takes as long.
_NO_DIGEST = "0" * 64


def create(
    name: str,
    scopes: Iterable[Scope],
    days: float | None = None,
    limits: Mapping[str, int] | None = None,
) -> tuple[Token, str]:
    """Makes a token that lives for so many days, or until it is revoked.

    Returns it and its text, which holds the secret and can be had only here.
    """
    now = time.time()
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    record: dict[str, str | float] = {
        "name": name,
        "digest": _digest(secret),
        "scopes": " ".join(sorted(scopes)),
        "limits": json.dumps(dict(limits or {})),
        "created": now,
    }
    if days is not None:
        record["expires"] = now + days * 86400
    with connection.errors_as_ours(), connection.client().pipeline() as pipe:
        pipe.hset(keys.token(token_id), mapping=record)  # type: ignore[arg-type]  # floats are fine
        pipe.zadd(keys.TOKENS, {token_id: now})
        pipe.execute()
    stored = {field: str(value) for field, value in record.items()}
    return _token(token_id, stored), f"ocrt_{token_id}_{secret}"


def list_all() -> list[Token]:
    """All tokens there ever were, the oldest first."""
    with connection.errors_as_ours():
        ids: list[str] = connection.client().zrange(keys.TOKENS, 0, -1)  # type: ignore[assignment]
        with connection.client().pipeline(transaction=False) as pipe:
            for token_id in ids:
                pipe.hgetall(keys.token(token_id))
            records = pipe.execute()
    return [
        _token(token_id, record) for token_id, record in zip(ids, records, strict=True) if record
    ]


def revoke(token_id: str) -> bool:
    """Ends a token: its next request is refused. False: there is no such token."""
    with connection.errors_as_ours():
        client = connection.client()
        if client.zscore(keys.TOKENS, token_id) is None:
            return False
        # This alone ends it, and a Redis that is full still takes it.
        client.hdel(keys.token(token_id), "digest")
        client.hsetnx(keys.token(token_id), "revoked", str(time.time()))
    return True


def verify(text: str) -> Token:
    """The token with this text."""
    match = TOKEN_TEXT.fullmatch(text)
    if match is None:
        raise errors.NotAuthenticated()
    token_id, secret = match.groups()
    record = _read(token_id)
    right = hmac.compare_digest(_digest(secret), record.get("digest", _NO_DIGEST))
    if not right or _has_ended(record):
        raise errors.NotAuthenticated()
    _note_use(token_id, record)
    return _token(token_id, record)


def check(token_id: str) -> None:
    """Makes sure that a token that was verified before is still good."""
    record = _read(token_id)
    if "digest" not in record or _has_ended(record):
        raise errors.NotAuthenticated()


def has_ended(token: Token) -> bool:
    """Whether the token was revoked or has expired."""
    return token.revoked_at is not None or (
        token.expires_at is not None and token.expires_at <= time.time()
    )


def _read(token_id: str) -> dict[str, str]:
    with connection.errors_as_ours():
        record: dict[str, str] = connection.client().hgetall(keys.token(token_id))  # type: ignore[assignment]
    return record


def _has_ended(record: Mapping[str, str]) -> bool:
    return float(record.get("expires", "inf")) <= time.time()


def _note_use(token_id: str, record: Mapping[str, str]) -> None:
    now = time.time()
    if now - float(record.get("used", 0)) < USED_EVERY:
        return
    with suppress(RedisError):  # a Redis that is full can still be read
        connection.client().hset(keys.token(token_id), "used", str(now))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(token_id: str, record: Mapping[str, str]) -> Token:
    def moment(field: str) -> float | None:
        return float(record[field]) if field in record else None

    return Token(
        id=token_id,
        name=record["name"],
        scopes=frozenset(Scope(scope) for scope in record["scopes"].split()),
        limits=json.loads(record["limits"]),
        created_at=float(record["created"]),
        expires_at=moment("expires"),
        used_at=moment("used"),
        revoked_at=moment("revoked"),
    )
