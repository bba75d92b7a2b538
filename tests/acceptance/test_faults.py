"""Failures of the environment: Redis is unavailable, clients are slow, the queue is full.

Nothing is left half done. tests/hostile/test_storage.py tests a full disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests import documents
from tests.acceptance.conftest import open_gate
from tests.conftest import Stack, matching, submit, wait_for_end, wait_until
from tests.parts import RedisServer, Web, another_web, redis_process

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("single")]

PAGE = ("page.pdf", documents.scan("garden"))


@pytest.fixture(scope="module")
def stack(single: Stack) -> Stack:
    return single


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def uploads(stack: Stack) -> list[Path]:
    return list((stack.data_dir / "uploads").glob("*"))


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_redis_becomes_unavailable_and_available_again(
    stack: Stack, http: httpx.Client, redis_of_single: RedisServer, how: signal.Signals
) -> None:
    done = wait_for_end(http, submit(http, PAGE).json())
    jobs = set(matching(stack.data_dir / "jobs", "*/*"))

    redis_of_single.signal(how)
    try:
        # All at once, because each waits for Redis as long as it may.
        with ThreadPoolExecutor() as clients:
            sent = clients.submit(submit, http, PAGE)
            paths = (done["links"]["self"], "/v1/jobs", "/readyz", "/healthz", "/metrics")
            one, listing, ready, alive, metrics = clients.map(http.get, paths)
        for answer in (sent.result(), one, listing):
            assert_unavailable(answer)
        assert ready.status_code == 503
        assert "redis" in ready.json()["missing"]
        assert alive.status_code == 200
        assert metrics.status_code == 200
        assert uploads(stack) == []
        assert set(matching(stack.data_dir / "jobs", "*/*")) == jobs
    finally:
        if how is signal.SIGKILL:
            redis_of_single.kill()
            redis_of_single.start()
        else:
            redis_of_single.signal(signal.SIGCONT)

    wait_until(stack.ready)
    assert http.get(done["links"]["self"]).json()["state"] == "succeeded"
    assert wait_for_end(http, submit(http, PAGE).json())["state"] == "succeeded"


def test_a_full_queue_refuses_with_a_realistic_delay(stack: Stack) -> None:
    with another_web(stack, OCR_QUEUE_MAX="2") as web, web.client() as http:
        held = submit(http, PAGE, title="fault: gate").json()
        wait_until(lambda: http.get(held["links"]["self"]).json()["state"] == "running")

        answers = [submit(http, PAGE) for _ in range(4)]

        assert [answer.status_code for answer in answers] == [202, 202, 503, 503]
        for answer in answers[2:]:
            assert answer.json()["code"] == "queue_full"
            assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert uploads(stack) == []
        open_gate(stack, held)
        for job in (held, *(answer.json() for answer in answers[:2])):
            assert wait_for_end(http, job)["state"] == "succeeded"
        assert submit(http, PAGE).status_code == 202


HEAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%PDF-'
)


def trickle(client: socket.socket, content: bytes) -> bytes:
    """Sends a byte every 50 ms until there is a response; returns it, or nothing."""
    client.settimeout(0.05)
    for number in range(1200):
        with contextlib.suppress(ConnectionError):
            client.send(content[number : number + 1])
        with contextlib.suppress(TimeoutError, ConnectionError):
            answer = client.recv(65536)
            client.settimeout(20)
            while answer and not answer.endswith(b"}"):
                answer += client.recv(65536)
            return answer
    raise AssertionError("still listening")


@pytest.fixture(scope="module")
def impatient(stack: Stack) -> Iterator[Web]:
    """Runs a web server that waits a second for a client's body."""
    with another_web(stack, OCR_BODY_SECONDS="1") as web:
        yield web


@pytest.mark.parametrize("rest", [b"", b"\0" * 1200], ids=["silent", "a byte at a time"])
def test_case_8_a_client_that_sends_too_slowly_is_disconnected(impatient: Web, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        client.sendall(HEAD)
        answer = trickle(client, rest)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too_slow" in answer
    assert uploads(impatient) == []


def test_case_8_a_client_that_sends_its_headers_too_slowly_is_disconnected(impatient: Web) -> None:
    """Without a complete request, there is no response."""
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        assert trickle(client, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200) == b""
    assert "Traceback" not in impatient.log.read_text()


def test_case_8_slow_senders_leave_threads_for_others(stack: Stack, http: httpx.Client) -> None:
    with contextlib.ExitStack() as slow:
        for _ in range(2):
            client = slow.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
            client.sendall(HEAD)
        wait_until(lambda: len(uploads(stack)) == 2)

        refused = submit(http, PAGE)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
        assert http.get("/v1/jobs").status_code == 200
        slow.close()

        def taken() -> bool:
            return submit(http, PAGE).status_code == 202

        wait_until(taken)


def test_event_streams_leave_threads_for_others(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, PAGE, title="fault: gate").json()
    with contextlib.ExitStack() as open_streams:
        for _ in range(2):
            client = open_streams.enter_context(stack.client())
            stream = open_streams.enter_context(client.stream("GET", job["links"]["events"]))
            assert stream.status_code == 200
        refused = http.get(job["links"]["events"])
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
        assert http.get(job["links"]["self"], params={"wait": 30}).status_code == 200
    open_gate(stack, job)

    assert wait_for_end(http, job)["state"] == "succeeded"
    assert http.get(job["links"]["events"]).status_code == 200


@pytest.mark.parametrize("program", ["worker", "web"])
def test_a_wrong_password_is_reported_at_startup(program: str, tmp_path: Path) -> None:
    with redis_process(tmp_path / "redis") as server:
        with server.client() as client:
            client.config_set("requirepass", "secret-of-redis")
        said = subprocess.run(
            [sys.executable, "-m", "ocr_tasks.cli", program],
            env=os.environ | {"OCR_REDIS_URL": server.url, "OCR_DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert said.returncode == 2
    assert "OCR_REDIS_URL: Redis denied access" in said.stderr
    assert "secret-of-redis" not in said.stderr
