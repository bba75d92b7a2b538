"""The webhook sender: a few concurrent requests per host, and no host delays others."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_tasks import webhooks
from ocr_tasks.redis import connection, keys
from ocr_tasks.worker.webhook_sender import WebhookSender
from tests.conftest import wait_until
from tests.ocr_tasks.test_webhooks import finished
from tests.receivers import Receiver, answers

pytestmark = pytest.mark.usefixtures("service", "loopback")


@pytest.fixture
def sender() -> Iterator[WebhookSender]:
    """A sender that ends before the next test begins, together with its requests."""
    thread = WebhookSender()
    yield thread
    thread.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def deaf(sender: WebhookSender) -> Iterator[str]:
    """Returns the URL of a host that accepts connections and never responds, until it is closed.

    It is closed before the sender is joined, which lets no request wait for a response.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.2", 0))
        listening.listen(64)
        yield f"http://127.0.0.2:{listening.getsockname()[1]}/"


def undelivered() -> int:
    return connection.client().zcard(keys.OUTBOX)


def test_many_messages_to_one_host_are_sent_once_each_and_two_at_a_time(
    receiver: Receiver,
    sender: WebhookSender,
) -> None:
    lock, at_once, most = threading.Lock(), 0, 0
    pair = threading.Barrier(2, timeout=60)

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        pair.wait()
        with lock:
            at_once -= 1
        answers(204)(handler)

    receiver.answer = answer
    sent = {finished(receiver.url).id for _ in range(100)}
    sender.begin()

    wait_until(lambda: not undelivered(), 60)
    sender.stop()
    sender.join()

    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(ids) == len(set(ids)) == len(sent)
    assert most == 2


def test_a_host_that_never_responds_delays_no_other(
    deaf: str,
    receiver: Receiver,
    sender: WebhookSender,
) -> None:
    for _ in range(300):
        finished(deaf)
    finished(receiver.url)
    sender.begin()

    wait_until(lambda: receiver.got)


def test_messages_that_a_stopping_sender_has_not_begun_are_due_for_others(
    deaf: str, sender: WebhookSender
) -> None:
    for _ in range(5):
        finished(deaf)
    sender.begin()
    wait_until(lambda: sender._senders["127.0.0.2"] == 2, 10)
    sender.stop()

    def due() -> int:
        return connection.client().zcount(keys.OUTBOX, 0, connection.now())

    wait_until(lambda: due() >= 3, 10)


def test_a_sender_process_sends_and_reports_that_it_is_alive(
    receiver: Receiver, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    environment = os.environ | {"OCR_ALIVE_FILE": str(alive)}
    sender = subprocess.Popen([sys.executable, "-m", "ocr_tasks.cli", "courier"], env=environment)
    try:
        finished(receiver.url)
        wait_until(lambda: receiver.got and alive.exists())
        first = alive.stat().st_mtime_ns
        wait_until(lambda: alive.stat().st_mtime_ns > first)
    finally:
        sender.terminate()
    assert sender.wait(20) == 0


def test_a_message_of_a_removed_extension_is_dropped_and_delays_no_other(
    receiver: Receiver, sender: WebhookSender
) -> None:
    orphan = finished(receiver.url)
    record = keys.task(orphan.id)
    connection.client().hset(record, "index", "ocr:gone")
    connection.client().hdel(record, "job")
    sent = finished(receiver.url)
    sender.begin()

    wait_until(lambda: not undelivered(), 60)

    (body,) = [body for _, body in receiver.got]
    assert sent.id.encode() in body


def test_a_message_that_cannot_be_prepared_delays_no_other(
    receiver: Receiver, sender: WebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sent = finished(receiver.url), finished(receiver.url)
    prepare = webhooks.notification

    def notification(message: webhooks.Message) -> webhooks.Notification | None:
        if message.job_id == broken.id:
            raise KeyError(message.job_id)
        return prepare(message)

    monkeypatch.setattr(webhooks, "notification", notification)
    sender.begin()

    wait_until(lambda: undelivered() == 1, 60)
    (body,) = [body for _, body in receiver.got]
    assert sent.id.encode() in body
