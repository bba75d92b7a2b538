"""Creates, lists, revokes and verifies API tokens.

A token is `ocrt_<id>_<secret>`. The id is public and identifies the owner of jobs. The secret
consists of 256 random bits, of which Redis stores only the SHA-256. As 256 random bits cannot be
guessed, a slow hash would only add time to each request.

A token can have further, temporary secrets with fewer scopes. They end with the token.
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

#: The limits that a token can override. The settings are called OCR_LIMIT_….
LIMITS = ("requests_minute", "submits_minute", "pages_day", "waiting_jobs", "open_uploads")

#: Minimum seconds between two updates of the time at which a token was last used.
USED_EVERY = 60

#: Compared with the secret if there is no such token, so that the response time is the same.
_NO_DIGEST = "0" * 64


def create(
    name: str,
    scopes: Iterable[Scope],
    days: float | None = None,
    limits: Mapping[str, int] | None = None,
) -> tuple[Token, str]:
    """Creates a token that expires after `days`, or never if `days` is None.

    Returns it and its text, which contains the secret and is not stored.
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
    with connection.translated_errors(), connection.client().pipeline() as pipe:
        pipe.hset(keys.token(token_id), mapping=record)  # type: ignore[arg-type]  # floats are fine
        pipe.zadd(keys.TOKENS, {token_id: now})
        pipe.execute()
    stored = {field: str(value) for field, value in record.items()}
    return _token(token_id, stored), f"ocrt_{token_id}_{secret}"


def create_temporary(token_id: str, scopes: Iterable[Scope], seconds: float) -> str:
    """Returns a text that is valid for `seconds` as the token, with those of its scopes."""
    secret = secrets.token_hex(32)
    key = keys.temporary_secret(token_id, _digest(secret))
    with connection.translated_errors():
        connection.client().set(key, " ".join(sorted(scopes)), px=int(seconds * 1000))
    return f"ocrt_{token_id}_{secret}"


def revoke_temporary(text: str) -> None:
    """Revokes a text that `create_temporary` has returned."""
    with connection.translated_errors():
        connection.client().delete(temporary_key(text))


def temporary_key(text: str) -> str:
    """Returns the key in Redis whose deletion revokes a text of `create_temporary`."""
    _, token_id, secret = text.split("_")
    return keys.temporary_secret(token_id, _digest(secret))


def list_all() -> list[Token]:
    """Returns all tokens, including expired and revoked ones, oldest first."""
    with connection.translated_errors():
        ids: list[str] = connection.client().zrange(keys.TOKENS, 0, -1)  # type: ignore[assignment]
        with connection.client().pipeline(transaction=False) as pipe:
            for token_id in ids:
                pipe.hgetall(keys.token(token_id))
            records = pipe.execute()
    return [
        _token(token_id, record) for token_id, record in zip(ids, records, strict=True) if record
    ]


def revoke(token_id: str) -> bool:
    """Revokes a token with immediate effect. Returns False if there is no such token."""
    with connection.translated_errors():
        client = connection.client()
        if client.zscore(keys.TOKENS, token_id) is None:
            return False
        # Deleting the digest revokes the token, even if Redis is full and rejects the other write.
        client.hdel(keys.token(token_id), "digest")
        client.hsetnx(keys.token(token_id), "revoked", str(time.time()))
    return True


def verify(text: str) -> Token:
    """Returns the token with this text. Raises NotAuthenticated if it is not valid."""
    match = TOKEN_TEXT.fullmatch(text)
    if match is None:
        raise errors.NotAuthenticated()
    token_id, secret = match.groups()
    record = _read(token_id)
    digest = _digest(secret)
    if not hmac.compare_digest(digest, record.get("digest", _NO_DIGEST)):
        record |= {"scopes": _temporary_scopes(token_id, digest, record)}
    if "digest" not in record or _has_expired(record):
        raise errors.NotAuthenticated()
    _record_use(token_id, record)
    return _token(token_id, record)


def check(token_id: str) -> None:
    """Raises NotAuthenticated if a token that was verified before is no longer valid."""
    record = _read(token_id)
    if "digest" not in record or _has_expired(record):
        raise errors.NotAuthenticated()


def has_ended(token: Token) -> bool:
    """Returns whether the token was revoked or has expired."""
    return token.revoked_at is not None or (
        token.expires_at is not None and token.expires_at <= time.time()
    )


def _read(token_id: str) -> dict[str, str]:
    with connection.translated_errors():
        record: dict[str, str] = connection.client().hgetall(keys.token(token_id))  # type: ignore[assignment]
    return record


def _temporary_scopes(token_id: str, digest: str, record: Mapping[str, str]) -> str:
    """Returns the scopes of a temporary secret, without those that the token lacks.

    Raises NotAuthenticated if there is no such secret.
    """
    with connection.translated_errors():
        found = connection.client().get(keys.temporary_secret(token_id, digest))
    if found is None:
        raise errors.NotAuthenticated()
    own = record.get("scopes", "").split()
    return " ".join(scope for scope in str(found).split() if scope in own or Scope.ADMIN in own)


def _has_expired(record: Mapping[str, str]) -> bool:
    return float(record.get("expires", "inf")) <= time.time()


def _record_use(token_id: str, record: Mapping[str, str]) -> None:
    now = time.time()
    if now - float(record.get("used", 0)) < USED_EVERY:
        return
    with suppress(RedisError):  # a full Redis rejects writes, but the token is valid
        connection.client().hset(keys.token(token_id), "used", str(now))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(token_id: str, record: Mapping[str, str]) -> Token:
    def timestamp(field: str) -> float | None:
        return float(record[field]) if field in record else None

    return Token(
        id=token_id,
        name=record["name"],
        scopes=frozenset(Scope(scope) for scope in record["scopes"].split()),
        limits=json.loads(record["limits"]),
        created_at=float(record["created"]),
        expires_at=timestamp("expires"),
        used_at=timestamp("used"),
        revoked_at=timestamp("revoked"),
    )
