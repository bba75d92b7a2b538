"""Webhooks with a real Redis and real receivers on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from ocr_tasks import errors, options, settings, webhooks
from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.model import Callback, Job, PageFailure, Progress, Stage
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from tests import examples
from tests.examples import ROOT
from tests.ocr_tasks.jobs.test_lifecycle import INPUT, OUTCOME, report
from tests.receivers import SECRET, Receiver, answers

pytestmark = pytest.mark.usefixtures("service", "loopback")

OLDER = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="


def submit(url: str, events: str = "end") -> str:
    job_id = layout.new_id()
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")
    layout.adopt(upload, job_id)
    lifecycle.submit(job_id, INPUT, options.from_dict({}), callback=Callback(url, events))
    return job_id


def finished(url: str, events: str = "end") -> Job:
    job_id = submit(url, events)
    leases.acquire(job_id, "run", "host:1:2")
    assert leases.commit(job_id, "run", OUTCOME)
    return lifecycle.read(job_id)


def deliver_all() -> list[webhooks.Attempt]:
    return [webhooks.deliver(message, notification(message)) for message in webhooks.acquire(100)]


def notification(message: webhooks.Message) -> webhooks.Notification:
    found = webhooks.notification(message)
    assert found is not None
    return found


def due_now() -> None:
    """Makes all messages of the list due now."""
    for member in connection.client().zrange(keys.OUTBOX, 0, -1):
        connection.client().zadd(keys.OUTBOX, {member: 0})


def test_the_end_of_a_job_is_sent_with_a_signature(receiver: Receiver) -> None:
    job = finished(receiver.url)

    (attempt,) = deliver_all()

    assert attempt.delivered
    ((headers, body),) = receiver.got
    assert headers["Content-Type"] == "application/json"
    told = Webhook(SECRET).verify(body, headers)
    assert told["type"] == "job.succeeded"
    assert told["data"]["id"] == job.id
    assert told["data"]["pages"] == 7
    assert told["data"]["artifacts"][0]["name"] == "pdf"
    assert len(body) < 20_000
    assert webhooks.acquire(100) == []
    callback = lifecycle.read(job.id).callback
    assert callback is not None
    assert [row["status"] for row in callback.deliveries] == [204]
    assert connection.client().zcard(keys.OUTBOX) == 0


def in_python(code: str) -> str:
    return f"""import sys
{code}
headers = dict(zip(("webhook-id", "webhook-timestamp", "webhook-signature"), sys.argv[1:4]))
sys.exit(verify(headers, open(sys.argv[4], "rb").read(), sys.argv[5]) is None)
"""


def in_js(code: str) -> str:
    return f"""{code}
const [id, stamp, signature, body, secret] = process.argv.slice(1);
const headers = {{"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": signature}};
const read = require("node:fs").readFileSync(body);
process.exit(verify(headers, read, secret) === null ? 1 : 0);
"""


#: How a code block of webhooks.md is run, with its function `verify`, by language.
RUNNERS = {
    "python": lambda code, *args: [sys.executable, "-c", in_python(code), *args],
    "js": lambda code, *args: ["node", "-e", in_js(code), *args],
    "sh": lambda code, *args: ["bash", "-c", f'{code}\nverify "$@"', "bash", *args],
}


@pytest.mark.parametrize("language", RUNNERS)
def test_receivers_can_verify_signatures_as_documented(
    language: str, receiver: Receiver, tmp_path: Path
) -> None:
    page = ROOT / "docs" / "how-to" / "webhooks.md"
    (code,) = [
        example.text
        for example in examples.of_page(page)
        if example.language == language and example.runner
    ]
    finished(receiver.url)
    deliver_all()
    ((headers, body),) = receiver.got
    kept = tmp_path / "body"

    def verified(body: bytes, *, stamp: str | None = None, secret: str = SECRET) -> bool:
        kept.write_bytes(body)
        values = [headers["webhook-id"], stamp or headers["webhook-timestamp"]]
        values += [headers["webhook-signature"], str(kept), secret]
        return subprocess.run(RUNNERS[language](code, *values)).returncode == 0

    assert verified(body)
    assert not verified(body + b" ")
    assert not verified(body, secret=OLDER)
    # The signature is valid but old: the secret is the same, only the timestamp is wrong.
    stamp = str(int(headers["webhook-timestamp"]) - 400)
    (headers["webhook-signature"],) = webhooks.sign(headers["webhook-id"], stamp, body)
    assert not verified(body, stamp=stamp)


def test_attempts_are_counted_by_their_result(receiver: Receiver) -> None:
    for answer in (answers(204), answers(500), answers(410)):
        receiver.answer = answer
        finished(receiver.url)
        deliver_all()

    stats = connection.client().hgetall(keys.STATS)

    counts = {name: int(stats[f"webhooks_{name}"]) for name in ("delivered", "failed", "given_up")}
    assert counts == {"delivered": 1, "failed": 1, "given_up": 1}


def test_a_job_without_a_callback_sends_nothing() -> None:
    job_id = layout.new_id()
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")
    layout.adopt(upload, job_id)
    lifecycle.submit(job_id, INPUT, options.from_dict({}))
    lifecycle.cancel(job_id)

    assert webhooks.acquire(100) == []
    with pytest.raises(errors.NoWebhook):
        webhooks.replay(lifecycle.read(job_id))


def test_failures_and_cancellations_are_sent_too(receiver: Receiver) -> None:
    failed, cancelled = submit(receiver.url), submit(receiver.url)
    leases.acquire(failed, "run", "host:1:2")
    report(failed, "run", "FAILURE", errors.ToolFailed())
    lifecycle.cancel(cancelled)

    deliver_all()

    told = [json.loads(body) for _, body in receiver.got]
    assert [(row["type"], row["data"]["error"]["code"]) for row in told] == [
        ("job.failed", "tool_failed"),
        ("job.cancelled", "job_cancelled"),
    ]


def test_each_stage_is_sent_once(receiver: Receiver) -> None:
    job_id = submit(receiver.url, "stages")
    leases.acquire(job_id, "run", "host:1:2")
    for stage in (Stage.SCANNING, Stage.OCR, Stage.OCR, Stage.STORING):
        report(job_id, "run", "PROGRESS", Progress(stage).to_dict())
    leases.commit(job_id, "run", OUTCOME)

    deliver_all()

    types = [json.loads(body)["type"] for _, body in receiver.got]
    assert types == ["job.scanning", "job.ocr", "job.storing", "job.succeeded"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 4


def test_a_message_is_leased_by_one_worker_at_a_time(receiver: Receiver) -> None:
    finished(receiver.url)

    assert len(webhooks.acquire(10)) == 1
    assert webhooks.acquire(10) == []


def test_a_message_whose_sender_died_is_sent_by_another(receiver: Receiver) -> None:
    finished(receiver.url)
    webhooks.acquire(10)

    due_now()

    assert [attempt.delivered for attempt in deliver_all()] == [True]


def test_a_failing_receiver_is_retried_over_hours_with_the_same_id(
    receiver: Receiver,
) -> None:
    job = finished(receiver.url)
    receiver.answer = answers(500)
    waits = []
    for _ in range(20):
        before = connection.now()
        attempts = deliver_all()
        if not attempts:
            break
        waits.append(round((attempts[0].next_at or before) - before))
        due_now()

    assert len(receiver.got) == len(webhooks.DELAYS) + 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    for waited, delay in zip(waits, webhooks.DELAYS, strict=False):
        assert 0.9 * delay - 1 <= waited <= 1.1 * delay + 1
    assert waits[-1] == 0
    read = lifecycle.read(job.id)
    assert read.state == "succeeded"
    assert read.callback is not None
    assert len(read.callback.deliveries) == 10
    assert read.callback.deliveries[-1]["next_at"] is None

    receiver.answer = answers(200)
    webhooks.replay(read)
    assert [attempt.delivered for attempt in deliver_all()] == [True]
    assert receiver.got[-1][0]["webhook-id"] == receiver.got[0][0]["webhook-id"]


def test_a_receiver_that_is_gone_is_not_retried(receiver: Receiver) -> None:
    finished(receiver.url)
    receiver.answer = answers(410)

    (attempt,) = deliver_all()

    assert (attempt.status, attempt.next_at) == (410, None)
    assert connection.client().zcard(keys.OUTBOX) == 0


@pytest.mark.parametrize(("said", "waits"), [("120", 120), ("999999", 86400), ("soon", 5)])
def test_a_busy_receiver_determines_the_delay(receiver: Receiver, said: str, waits: int) -> None:
    finished(receiver.url)
    receiver.answer = answers(429, Retry_After=said)

    (attempt,) = deliver_all()

    assert attempt.next_at is not None
    assert waits * 0.9 - 1 <= attempt.next_at - attempt.at <= waits * 1.1 + 1


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    finished(receiver.url)
    receiver.answer = answers(302, Location=receiver.url.replace("hook", "secret"))

    (attempt,) = deliver_all()

    assert (attempt.status, attempt.delivered) == (302, False)
    assert len(receiver.got) == 1


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)


def dripping(handler: http.server.BaseHTTPRequestHandler) -> None:
    with contextlib.suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(b"H")
            time.sleep(0.02)


def resetting(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def test_an_endless_response_is_cut_off(receiver: Receiver) -> None:
    finished(receiver.url)
    receiver.answer = endless

    assert [attempt.status for attempt in deliver_all()] == [200]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(dripping, "the server did not respond in time"), (resetting, "the connection failed")],
)
def test_a_misbehaving_receiver_is_retried(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, behaviour: Any, reason: str
) -> None:
    if behaviour is dripping:
        monkeypatch.setattr(webhooks, "_TIMEOUT", 0.5)
    finished(receiver.url)
    receiver.answer = behaviour

    (attempt,) = deliver_all()

    assert (attempt.status, attempt.reason) == (None, reason)
    assert attempt.next_at is not None


def test_a_url_that_resolves_to_a_private_ip_address_when_it_is_sent_is_blocked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(receiver.url.replace("127.0.0.1", "rebinding.example"))
    monkeypatch.setenv("OCR_CALLBACK_NETWORKS", "")
    settings.clear()
    (message,) = webhooks.acquire(10)

    attempt = webhooks.deliver(message, notification(message), lambda host, port: ["127.0.0.1"])

    assert attempt.reason.startswith("blocked")
    assert "127.0.0.1" not in attempt.reason
    assert receiver.got == []


def test_secrets_can_be_rotated_without_a_gap(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_WEBHOOK_SECRETS", f"{SECRET},{OLDER}")
    settings.clear()
    finished(receiver.url)
    deliver_all()

    ((headers, body),) = receiver.got
    for secret in (SECRET, OLDER):
        assert Webhook(secret).verify(body, headers)


def test_a_secret_is_created_once_and_is_readable_by_its_owner_only(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCR_WEBHOOK_SECRETS")
    settings.clear()
    made: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: made.append(webhooks.secret_texts())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({text for texts in made for text in texts}) == 1
    Webhook(made[0][0])  # raises an exception if the secret is invalid
    path = settings.get().data_dir / "webhook.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.glob(".webhook*")] == []


def test_a_retry_of_a_job_is_sent_again(receiver: Receiver) -> None:
    job_id = submit(receiver.url)
    lifecycle.cancel(job_id)
    lifecycle.retry(job_id)
    leases.acquire(job_id, "run", "host:1:2")
    leases.commit(job_id, "run", OUTCOME)

    deliver_all()

    types = [json.loads(body)["type"] for _, body in receiver.got]
    assert sorted(types) == ["job.cancelled", "job.succeeded"]


@pytest.mark.parametrize(
    "form",
    [
        {"callback_url": ["http://a.example/", "http://b.example/"]},
        {"callback_url": ["http://a.example/"], "callback_events": ["always"]},
        {"callback_events": ["end"]},
    ],
)
def test_an_invalid_callback_is_refused(form: dict[str, list[str]]) -> None:
    with pytest.raises(errors.InvalidOptions):
        webhooks.callback_of(form)


def test_callback_fields_are_removed_from_the_form() -> None:
    form = {"callback_url": ["http://a.example/"], "languages": ["eng"]}

    assert webhooks.callback_of(form) == Callback("http://a.example/", "end")
    assert form == {"languages": ["eng"]}
    assert webhooks.callback_of(form) is None


def message_of(job: Job, event: str) -> webhooks.Message:
    return webhooks.Message(job.id, job.attempt, event, 0)


def test_the_message_of_a_succeeded_job_is_complete() -> None:
    job_id = submit("http://127.0.0.1:1/hook")
    leases.acquire(job_id, "run", "host:1:2")
    failed = tuple(PageFailure(number, "page_timeout", "") for number in range(1, 601))
    leases.commit(job_id, "run", dataclasses.replace(OUTCOME, failed_pages=failed))
    job = lifecycle.read(job_id)

    before = int(time.time())
    told = webhooks.payload(message_of(job, "succeeded"), job)

    assert before <= datetime.fromisoformat(told.pop("timestamp")).timestamp() <= time.time()
    assert told == {
        "type": "job.succeeded",
        "data": {
            "id": job_id,
            "state": "succeeded",
            "attempt": 1,
            "name": "scan.pdf",
            "pages": 7,
            "pages_done": 7,
            "failed_pages": list(range(1, 501)),
            "artifacts": [
                {"name": "pdf", "media_type": "application/pdf", "bytes": 5, "sha256": "1" * 64}
            ],
            "error": None,
            "href": f"/v1/jobs/{job_id}",
        },
    }


def test_messages_of_running_and_failed_jobs_have_no_results() -> None:
    job_id = submit("http://127.0.0.1:1/hook", "stages")
    leases.acquire(job_id, "run", "host:1:2")
    report(job_id, "run", "PROGRESS", Progress(Stage.OCR, pages_done=3, pages_total=7).to_dict())
    job = lifecycle.read(job_id)
    told = webhooks.payload(message_of(job, "ocr"), job)["data"]
    assert (told["pages"], told["pages_done"], told["state"]) == (7, 3, "running")
    assert (told["failed_pages"], told["artifacts"], told["error"]) == ([], [], None)

    report(job_id, "run", "FAILURE", errors.ToolFailed("it broke"))
    job = lifecycle.read(job_id)

    told = webhooks.payload(message_of(job, "failed"), job)["data"]
    assert told["error"] == {"code": "tool_failed", "message": "it broke"}
    assert (told["pages_done"], told["artifacts"]) == (3, [])


@pytest.mark.parametrize(
    ("status", "delivered"), [(None, False), (199, False), (200, True), (299, True), (300, False)]
)
def test_only_2xx_responses_are_deliveries(status: int | None, delivered: bool) -> None:
    assert webhooks.Attempt("succeeded", 0, status, "", None).delivered is delivered


def test_messages_of_a_deleted_job_are_deleted() -> None:
    job = finished("http://127.0.0.1:1/hook")
    (message,) = webhooks.acquire(10)
    connection.client().hset(keys.OUTBOX_TRIES, message.member, 3)
    lifecycle.delete(job.id)

    assert webhooks.notification(message) is None
    webhooks.drop(message)

    assert not connection.client().exists(keys.OUTBOX, keys.OUTBOX_TRIES)


def test_postponing_a_message_is_not_an_attempt() -> None:
    finished("http://127.0.0.1:1/hook")
    (message,) = webhooks.acquire(10)

    before = connection.now()
    webhooks.postpone(message, 500)

    due = connection.client().zscore(keys.OUTBOX, message.member)
    assert due is not None
    assert before <= due - 500 <= connection.now()
    due_now()
    assert webhooks.acquire(10) == [message]


def test_postponing_a_message_that_was_sent_meanwhile_does_not_queue_it_again() -> None:
    finished("http://127.0.0.1:1/hook")
    (message,) = webhooks.acquire(10)
    webhooks.drop(message)

    webhooks.postpone(message, 0)

    assert webhooks.acquire(10) == []


def test_as_many_messages_are_leased_as_requested() -> None:
    for _ in range(3):
        finished("http://127.0.0.1:1/hook")

    assert webhooks.acquire(0) == []
    assert [len(webhooks.acquire(2)) for _ in range(3)] == [2, 1, 0]


def test_a_job_remembers_its_last_twenty_attempts() -> None:
    job = finished("http://127.0.0.1:1/hook")
    (message,) = webhooks.acquire(10)
    for number in range(25):
        attempt = dataclasses.asdict(webhooks.Attempt("succeeded", number, 500, "", 1.0))
        names = [keys.task(job.id), keys.OUTBOX, keys.OUTBOX_TRIES, keys.STATS]
        args = [message.member, json.dumps(attempt), "1", "failed"]
        connection.run("delivered", names, args)

    callback = lifecycle.read(job.id).callback
    assert callback is not None
    assert [row["at"] for row in callback.deliveries] == list(range(5, 25))
    assert connection.client().hget(keys.OUTBOX_TRIES, message.member) == "25"
