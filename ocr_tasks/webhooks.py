"""Tells those who asked for it what has become of their jobs.

What is to be told is put on a list in Redis by the very script that writes the state of a job, so
nothing that happens to a worker loses it. A thread of each worker's main process sends it, signed
after Standard Webhooks (https://www.standardwebhooks.com), and tries again over hours where nobody
takes it. The same message has the same id each time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import random
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpcore

from ocr_tasks import errors, extensions, settings
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Callback, Job
from ocr_tasks.redis import connection, keys
from ocr_tasks.security import url_guard
from ocr_tasks.storage import atomic, store

log = logging.getLogger(__name__)

#: Seconds after each try that failed until the next one; then the message is given up.
DELAYS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

#: What may be told of: the end of a job alone, or every stage as well.
EVENTS = frozenset({"end", "stages"})

#: Seconds for one try, to connect and in all, and bytes of an answer that are read.
_CONNECT, _IN_ALL, _MOST_READ = 10.0, 15.0, 64 * 1024

#: Seconds for which a message is one worker's, longer than a try takes.
_LEASE = 60

#: A receiver may ask for so many seconds until the next try at most.
_LONGEST_WAIT = 86400

#: What a receiver answers who is busy (and one that is gone for good answers 410).
_BUSY, _GONE = {429, 502, 503, 504}, 410


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be told: `event` is a state or a stage of an attempt of a job."""

    job_id: str
    attempt: int
    event: str
    tries: int

    @property
    def member(self) -> str:
        return f"{self.job_id} {self.attempt} {self.event}"

    @property
    def id(self) -> str:
        """The same for each try, and for nothing else."""
        return "msg_" + hashlib.sha256(self.member.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told of something, and what."""

    url: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try: at which time, which answer or why there is none, and when the next one is due."""

    event: str
    at: float
    status: int | None
    reason: str
    next_at: float | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def wanted(form: dict[str, list[str]]) -> Callback | None:
    """Who is to be told of a job, taken out of the fields of a request."""
    urls, events = form.pop("callback_url", []), form.pop("callback_events", [])
    if not urls:
        if events:
            raise errors.InvalidOptions("callback_events: there is no callback_url")
        return None
    if len(urls) > 1 or len(events) > 1 or not {*events} <= EVENTS:
        raise errors.InvalidOptions(
            f"callback_url comes once, callback_events is one of {', '.join(sorted(EVENTS))}"
        )
    url_guard.parse(urls[0])
    return Callback(urls[0], events[0] if events else "end")


def take(most: int) -> list[Message]:
    """Messages that are due, now this worker's for a minute."""
    rows = connection.run("due", [keys.OUTBOX, keys.OUTBOX_TRIES], [most, _LEASE])
    messages = []
    for member, tries in zip(rows[::2], rows[1::2], strict=True):
        job_id, attempt, event = member.split(" ")
        messages.append(Message(job_id, int(attempt), event, int(tries)))
    return messages


def postpone(message: Message, seconds: float) -> None:
    """Has a message wait without a try."""
    due = connection.now() + seconds
    connection.client().zadd(keys.OUTBOX, {message.member: due}, xx=True)


def told(message: Message) -> Told | None:
    """Whom a message goes to, and what it says; None: what it is about is gone."""
    with suppress(errors.JobNotFound, errors.JobDeleted):
        job = lifecycle.read(message.job_id)
        return Told(job.callback.url, payload(message, job)) if job.callback else None
    for extension in extensions.installed():
        if found := extension.notification(message.job_id, message.event):
            return Told(*found)
    return None


def deliver(
    message: Message, told: Told, resolve: url_guard.Resolve = url_guard.resolve
) -> Attempt:
    """Tries once to tell, and notes what came of it."""
    body = json.dumps(told.content, ensure_ascii=False).encode()
    status, reason, wait = None, "", 0
    try:
        status, wait = _post(told.url, message.id, body, resolve)
    except (url_guard.Refused, errors.CallbackRefused) as refused:
        reason = f"blocked: {refused}"
    except (httpcore.TimeoutException, TimeoutError):
        reason = "no answer in time"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError):
        reason = "the connection failed"
    now = connection.now()
    attempt = Attempt(message.event, now, status, reason, None)
    if not attempt.delivered and status != _GONE and message.tries < len(DELAYS):
        delay = DELAYS[message.tries] * random.uniform(0.9, 1.1)  # noqa: S311  # no secret
        attempt = Attempt(message.event, now, status, reason, now + max(delay, wait))
    due = "" if attempt.next_at is None else repr(attempt.next_at)
    ended = "delivered" if attempt.delivered else "given_up"
    names = [keys.task(message.job_id), keys.OUTBOX, keys.OUTBOX_TRIES, keys.STATS]
    args = [message.member, json.dumps(asdict(attempt)), due, "failed" if due else ended]
    connection.run("delivered", names, args)
    return attempt


def drop(message: Message) -> None:
    """Forgets a message whose job is gone."""
    connection.client().zrem(keys.OUTBOX, message.member)
    connection.client().hdel(keys.OUTBOX_TRIES, message.member)


def replay(job: Job) -> None:
    """Tells the end of a job once more, from the first try on."""
    if job.callback is None or not job.state.final:
        raise errors.NoCallback()
    member = Message(job.id, job.attempt, job.state, 0).member
    with connection.errors_as_ours(), connection.client().pipeline() as pipe:
        pipe.hdel(keys.OUTBOX_TRIES, member)
        pipe.zadd(keys.OUTBOX, {member: time.time()})
        pipe.execute()


def payload(message: Message, job: Job) -> dict[str, Any]:
    """What is told of a job; small, and never its text."""
    outcome, failure = job.outcome, job.failure
    return {
        "type": f"job.{message.event}",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "id": job.id,
            "state": job.state,
            "attempt": job.attempt,
            "name": job.input.name,
            "pages": job.input.pages,
            "pages_done": job.input.pages if outcome else job.progress.pages_done,
            "failed_pages": [row.page for row in outcome.failed_pages][:500] if outcome else [],
            "artifacts": [asdict(row) for row in outcome.artifacts] if outcome else [],
            "error": {"code": failure.code, "message": failure.message} if failure else None,
            "href": f"/v1/jobs/{job.id}",
        },
    }


def _post(text: str, message_id: str, body: bytes, resolve: url_guard.Resolve) -> tuple[int, int]:
    """Status, and the seconds that the receiver asks to wait."""
    url = url_guard.parse(text)
    stamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ocr-tasks",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(message_id, stamp, body)),
    }
    backend = url_guard.VettedBackend(_IN_ALL, resolve)
    limits = {"connect": _CONNECT, "read": _IN_ALL, "write": _IN_ALL, "pool": _IN_ALL}
    with (
        httpcore.ConnectionPool(network_backend=backend) as pool,
        pool.stream(
            "POST",
            httpcore.URL(str(url)),
            headers=list(headers.items()),
            content=body,
            extensions={"timeout": limits},
        ) as answer,
    ):
        read = 0
        for piece in answer.iter_stream():
            read += len(piece)
            if read > _MOST_READ:
                break
        return answer.status, _wanted_wait(answer)


def _wanted_wait(answer: httpcore.Response) -> int:
    if answer.status not in _BUSY:
        return 0
    found = next((v for name, v in answer.headers if name.lower() == b"retry-after"), b"")
    return min(int(found), _LONGEST_WAIT) if found.isdigit() else 0


# Signatures


def sign(message_id: str, stamp: str, body: bytes) -> list[str]:
    """The signatures of a message, one with each secret, the newest first."""
    signed = f"{message_id}.{stamp}.".encode() + body
    return [
        "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        for secret in map(_bytes_of, secret_texts())
    ]


def secret_texts() -> list[str]:
    """The secrets as receivers need them, the newest first; made at random if none is set."""
    chosen = settings.get().webhook_secret_list
    if chosen:
        return chosen
    path = settings.get().data_dir / "webhook.secret"
    try:
        if not path.exists():
            if not store.get().in_folder:
                log.warning("made a secret for this host alone; others need OCR_WEBHOOK_SECRETS")
            secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            atomic.create(path, f"{secret}\n".encode(), mode=0o600)
        return [path.read_text().strip()]
    except OSError as error:
        raise errors.StorageUnavailable("the secret for webhooks cannot be read") from error


def _bytes_of(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)
