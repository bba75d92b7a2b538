"""Webhooks of a real stack, as a receiver gets them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from ocr_tasks.redis import connection
from tests import documents
from tests.acceptance.conftest import operating
from tests.acceptance.test_takeover import main_process
from tests.conftest import Stack, submit, wait_for_end, wait_until
from tests.receivers import SECRET, Receiver, receiving

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("featured")]

PAGE = ("scan.pdf", documents.scan("garden"))
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "webhooks.md"


@pytest.fixture(scope="module")
def stack(featured: Stack) -> Stack:
    return featured


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_a_receiver_gets_a_webhook_and_verifies_it_as_documented(
    http: httpx.Client, receiver: Receiver
) -> None:
    job = submit(http, PAGE, callback_url=receiver.url, callback_events="stages").json()
    assert job["callback"] == {"url": receiver.url, "events": "stages", "deliveries": []}
    ended = wait_for_end(http, job)
    assert ended["state"] == "succeeded"

    def count(kind: bytes) -> int:
        return sum(kind in body for _, body in receiver.got)

    # Several are sent at the same time, so they arrive in any order.
    wait_until(lambda: all(map(count, (b"job.scanning", b"job.ocr", b"job.succeeded"))))

    code = GUIDE.read_text().partition("```python\n")[2].partition("```")[0]
    guide: dict[str, object] = {}
    exec(code, guide)  # it is defined in this project, and this is its test
    verify = guide["verify"]
    assert callable(verify)
    types = set()
    for headers, body in receiver.got:
        assert verify(headers, body, SECRET)
        assert not verify(headers, body + b" ", SECRET)
        types.add(verify(headers, body, SECRET)["type"])
    assert {"job.scanning", "job.ocr", "job.succeeded"} <= types

    def told() -> bool:
        rows = http.get(job["links"]["self"]).json()["callback"]["deliveries"]
        return "succeeded" in {row["event"] for row in rows if row["status"] == 204}

    wait_until(told)
    again = http.post(f"{job['links']['self']}/callback")
    assert again.status_code == 202
    wait_until(lambda: count(b"job.succeeded") == 2)


def test_a_forbidden_url_is_refused(http: httpx.Client) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "http://[::1]/", "file:///etc/passwd"):
        answer = submit(http, PAGE, callback_url=url)
        assert (answer.status_code, answer.json()["code"]) == (422, "callback_refused")


def test_webhooks_that_a_killed_worker_did_not_send_are_sent_by_the_next_one(
    stack: Stack, http: httpx.Client, receiver: Receiver
) -> None:
    job = submit(http, PAGE, callback_url=receiver.url).json()
    main = main_process(stack)
    key = f"celery-task-meta-{job['id']}"
    # It dies exactly at the end of the job, before it can send anything.
    children = main.children(recursive=True)
    with operating(stack):
        wait_until(lambda: connection.client().hget(key, "state") == "succeeded")
    for process in (main, *children):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue

    wait_until(lambda: receiver.got, 120)  # it may be due again in a minute

    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(ids) == 1


def test_an_unresponsive_host_does_not_delay_others(http: httpx.Client, receiver: Receiver) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", 0))
        deaf.listen(64)
        nobody = f"http://127.0.0.2:{deaf.getsockname()[1]}/"
        for _ in range(12):
            job = submit(http, PAGE, callback_url=nobody).json()
            http.post(f"{job['links']['self']}/cancel").raise_for_status()
        job = submit(http, PAGE, callback_url=receiver.url).json()
        http.post(f"{job['links']['self']}/cancel").raise_for_status()

        wait_until(lambda: receiver.got)

        deaf.settimeout(0)
        called = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.accept()[0].close()
                called += 1
        # Two at a time, each for the timeout of a response.
        assert 0 < called < 12
