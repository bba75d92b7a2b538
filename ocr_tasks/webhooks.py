"""Webhooks: HTTP requests that report the progress and the end of jobs to their clients.

The Lua script that writes the state of a job also queues the message, so a crash cannot lose it. A
thread of each worker's main process (`worker.webhook_sender`) acquires due messages and sends them,
signed according to Standard Webhooks (https://www.standardwebhooks.com). Failed deliveries are
retried for three days. Delivery is at least once; all attempts of a message have the same id.
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
from collections.abc import Sequence
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

#: Seconds from each failed attempt to the next one. After the last delay the message is given up.
DELAYS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

#: What a webhook reports: the end of a job, or each stage as well.
EVENTS = frozenset({"end", "stages"})

#: Timeouts of an attempt in seconds, to connect and in total.
_CONNECT_TIMEOUT, _TIMEOUT = 10.0, 15.0

#: Maximum number of bytes that are read of a response.
_MAX_RESPONSE_BYTES = 64 * 1024

#: Seconds for which one worker has a message, longer than an attempt takes.
_LEASE = 60

#: Maximum number of seconds that a receiver can request in Retry-After.
_MAX_RETRY_AFTER = 86400

#: Status codes of responses whose Retry-After is used.
_BUSY = {429, 502, 503, 504}

#: Status code with which a receiver refuses all further attempts.
_GONE = 410


@dataclass(frozen=True, slots=True)
class Message:
    """A queued webhook.

    `event` is a state or a stage of run `attempt` of the job. `tries` is the number of failed
    delivery attempts.
    """

    job_id: str
    attempt: int
    event: str
    tries: int

    @property
    def member(self) -> str:
        """The message's member of `keys.OUTBOX`."""
        return f"{self.job_id} {self.attempt} {self.event}"

    @property
    def id(self) -> str:
        """The message id, which is the same for all delivery attempts."""
        return "msg_" + hashlib.sha256(self.member.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Notification:
    """The URL and the payload of a webhook."""

    url: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery attempt.

    `at` is its time, `status` the status code of the response, and `reason` why there is none.
    `next_at` is the time of the next attempt, None if it was the last. Times are seconds since the
    epoch.
    """

    event: str
    at: float
    status: int | None
    reason: str
    next_at: float | None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def callback_of(form: dict[str, list[str]]) -> Callback | None:
    """Removes the fields of the webhook from a form, and returns the webhook that they request."""
    urls, events = form.pop("callback_url", []), form.pop("callback_events", [])
    if not urls:
        if events:
            raise errors.InvalidOptions("callback_events requires callback_url")
        return None
    if len(urls) > 1 or len(events) > 1 or not {*events} <= EVENTS:
        raise errors.InvalidOptions(
            f"Send one callback_url, and one of {', '.join(sorted(EVENTS))} as callback_events"
        )
    url_guard.parse(urls[0])
    return Callback(urls[0], events[0] if events else "end")


def acquire(most: int) -> list[Message]:
    """Acquires up to `most` due messages for one minute."""
    rows = connection.run("due", [keys.OUTBOX, keys.OUTBOX_TRIES], [most, _LEASE])
    messages = []
    for member, tries in zip(rows[::2], rows[1::2], strict=True):
        job_id, attempt, event = member.split(" ")
        messages.append(Message(job_id, int(attempt), event, int(tries)))
    return messages


def postpone(message: Message, seconds: float) -> None:
    """Makes a message due after `seconds`, without an attempt."""
    due = connection.now() + seconds
    connection.client().zadd(keys.OUTBOX, {message.member: due}, xx=True)


def notification(message: Message) -> Notification | None:
    """Returns the URL and the payload of a message, None if its job no longer exists."""
    with suppress(errors.JobNotFound, errors.JobDeleted):
        job = lifecycle.read(message.job_id)
        return Notification(job.callback.url, payload(message, job)) if job.callback else None
    for extension in extensions.installed():
        if row := extension.notification(message.job_id, message.event):
            return Notification(*row)
    return None


def deliver(
    message: Message, notification: Notification, resolve: url_guard.Resolve = url_guard.resolve
) -> Attempt:
    """Makes one delivery attempt, records it, and schedules the next one if it failed."""
    body = json.dumps(notification.content, ensure_ascii=False).encode()
    status, reason, wait = None, "", 0
    try:
        status, wait = _post(notification.url, message.id, body, resolve)
    except (url_guard.Refused, errors.CallbackRefused) as refused:
        reason = f"blocked: {refused}"
    except (httpcore.TimeoutException, TimeoutError):
        reason = "the server did not respond in time"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError):
        reason = "the connection failed"
    now = connection.now()
    attempt = Attempt(message.event, now, status, reason, None)
    if not attempt.delivered and status != _GONE and message.tries < len(DELAYS):
        delay = DELAYS[message.tries] * random.uniform(0.9, 1.1)  # noqa: S311  # not a secret
        attempt = Attempt(message.event, now, status, reason, now + max(delay, wait))
    due = "" if attempt.next_at is None else repr(attempt.next_at)
    ended = "delivered" if attempt.delivered else "given_up"
    names = [keys.task(message.job_id), keys.OUTBOX, keys.OUTBOX_TRIES, keys.STATS]
    args = [message.member, json.dumps(asdict(attempt)), due, "failed" if due else ended]
    connection.run("delivered", names, args)
    return attempt


def drop(message: Message) -> None:
    """Deletes a message whose job no longer exists."""
    connection.client().zrem(keys.OUTBOX, message.member)
    connection.client().hdel(keys.OUTBOX_TRIES, message.member)


def replay(job: Job) -> None:
    """Sends the webhook of a job's end again, with a full set of attempts."""
    if job.callback is None or not job.state.final:
        raise errors.NoWebhook()
    member = Message(job.id, job.attempt, job.state, 0).member
    with connection.translated_errors(), connection.client().pipeline() as pipe:
        now = connection.now()
        pipe.hdel(keys.OUTBOX_TRIES, member)
        pipe.zadd(keys.OUTBOX, {member: now})
        pipe.execute()


def payload(message: Message, job: Job) -> dict[str, Any]:
    """Returns the payload of a message. It never has the text of the document."""
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
    """Returns the status code of the response, and the seconds of its Retry-After, or 0."""
    url = url_guard.parse(text)
    stamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ocr-tasks",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(message_id, stamp, body)),
    }
    backend = url_guard.GuardedBackend(_TIMEOUT, resolve)
    timeouts = {"connect": _CONNECT_TIMEOUT, "read": _TIMEOUT, "write": _TIMEOUT, "pool": _TIMEOUT}
    with (
        httpcore.ConnectionPool(network_backend=backend) as pool,
        pool.stream(
            "POST",
            httpcore.URL(str(url)),
            headers=list(headers.items()),
            content=body,
            extensions={"timeout": timeouts},
        ) as response,
    ):
        size = 0
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > _MAX_RESPONSE_BYTES:
                break
        return response.status, _retry_after(response)


def _retry_after(response: httpcore.Response) -> int:
    if response.status not in _BUSY:
        return 0
    value = next((v for name, v in response.headers if name.lower() == b"retry-after"), b"")
    return min(int(value), _MAX_RETRY_AFTER) if value.isdigit() else 0


# Signatures


def sign(message_id: str, stamp: str, body: bytes) -> list[str]:
    """Returns the signatures of a message, one for each secret, the newest first."""
    signed = f"{message_id}.{stamp}.".encode() + body
    return [
        "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        for secret in map(_decode, secret_texts())
    ]


def secret_texts() -> Sequence[str]:
    """Returns the secrets as receivers need them, the newest first.

    If OCR_WEBHOOK_SECRETS is not set, returns a random one that is stored in the data folder.
    """
    chosen = settings.get().webhook_secrets
    if chosen:
        return chosen
    path = settings.get().data_dir / "webhook.secret"
    try:
        if not path.exists():
            if not store.get().in_folder:
                log.warning(
                    "created a webhook secret for this host; set OCR_WEBHOOK_SECRETS on all hosts"
                )
            # If two processes create a secret at the same time, the first one stays.
            secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            atomic.create(path, f"{secret}\n".encode(), mode=0o600)
        return [path.read_text().strip()]
    except OSError as error:
        raise errors.StorageUnavailable("The webhook secret cannot be read") from error


def _decode(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"), validate=True)
