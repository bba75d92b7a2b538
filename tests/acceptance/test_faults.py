"""What is around us fails: the disk is full, Redis is away. Nothing is half-made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from tests import documents
from tests.conftest import DATA, SIX_PAGES, Stack, running_stack, submit, wait_for_end, wait_until

pytestmark = pytest.mark.acceptance

PAGE = DATA / "huckleberry-finn-p22.pdf"
MIB = 1024 * 1024


@contextlib.contextmanager
def redis_process(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis of its own, at an address that stays when it is started anew."""
    path = folder / "redis.sock"
    program = shutil.which("redis-server")
    assert program
    command = [program, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
    server = subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists)
        yield f"unix://{path}", server
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let the test mount a small file system")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Takes all room but so many bytes."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"\0" * max(0, free - leave))
    return ballast


def test_a_full_disk_refuses_fails_and_is_overcome(tmp_path: Path, small_disk: Path) -> None:
    with (
        redis_process(tmp_path) as (url, _),
        running_stack(
            tmp_path, OCR_DATA_DIR=str(small_disk), OCR_REDIS_URL=url, OCR_RESERVE_BYTES="0"
        ) as stack,
        stack.client() as http,
    ):
        assert wait_for_end(http, submit(http, PAGE).json())["state"] == "succeeded"

        ballast = fill(small_disk, leave=MIB)
        refused = submit(http, ("large.pdf", b"%PDF-" + b"\0" * (2 * MIB)))
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert list((small_disk / "uploads").glob("*")) == []

        ballast.unlink()
        fill(small_disk, leave=MIB)
        job = wait_for_end(http, submit(http, PAGE).json())
        assert (job["state"], job["error"]["code"]) == ("failed", "job_storage_full")
        folder = small_disk / "jobs" / job["id"][:2] / job["id"]
        wait_until(lambda: not list((folder / "work").glob("*")))

        ballast.unlink()
        http.post(f"{job['links']['self']}/retry")
        assert wait_for_end(http, job)["state"] == "succeeded"


def test_a_reserve_is_kept_free(tmp_path: Path, small_disk: Path) -> None:
    with (
        redis_process(tmp_path) as (url, _),
        running_stack(
            tmp_path,
            OCR_DATA_DIR=str(small_disk),
            OCR_REDIS_URL=url,
            OCR_RESERVE_BYTES=str(10 * MIB),
        ) as stack,
        stack.client() as http,
    ):
        fill(small_disk, leave=9 * MIB)
        refused = submit(http, PAGE)
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        assert int(refused.headers["Retry-After"]) > 0
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["missing"] == ["storage"]


def assert_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_redis_goes_away_and_comes_back(tmp_path: Path, how: signal.Signals) -> None:
    with contextlib.ExitStack() as life:
        first = life.enter_context(contextlib.ExitStack())
        url, server = first.enter_context(redis_process(tmp_path))
        stack = life.enter_context(running_stack(tmp_path, OCR_REDIS_URL=url))
        http = life.enter_context(stack.client())
        done = wait_for_end(http, submit(http, PAGE).json())

        server.send_signal(how)
        if how is signal.SIGKILL:
            server.wait()
        # All at once, as each waits for Redis as long as it may.
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
        assert list((stack.data_dir / "uploads").glob("*")) == []
        assert len(list((stack.data_dir / "jobs").glob("*/*"))) == 1

        if how is signal.SIGKILL:
            first.close()
            life.enter_context(redis_process(tmp_path))
        else:
            server.send_signal(signal.SIGCONT)

        wait_until(stack.ready)
        assert http.get(done["links"]["self"]).json()["state"] == "succeeded"
        assert wait_for_end(http, submit(http, PAGE).json())["state"] == "succeeded"


def test_a_full_queue_refuses_with_an_honest_time(tmp_path: Path) -> None:
    with (
        running_stack(tmp_path, OCR_QUEUE_MAX="2", OCR_WORKER_PROCESSES="1") as stack,
        stack.client() as http,
    ):
        page = ("a.pdf", documents.scan("one", "two", "three"))
        answers = [submit(http, page) for _ in range(5)]

        refused = [answer for answer in answers if answer.status_code != 202]
        assert refused
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
            assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert len(http.get("/v1/jobs").json()["jobs"]) == 5 - len(refused)
        assert list((stack.data_dir / "uploads").glob("*")) == []
        for job in http.get("/v1/jobs").json()["jobs"]:
            assert wait_for_end(http, job)["state"] == "succeeded"


HEAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%PDF-'
)


def trickle(client: socket.socket, content: bytes) -> bytes:
    """Sends a byte every 50 ms until an answer comes, which may be none; gives it."""
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
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that waits a second for what a client sends."""
    with running_stack(tmp_path_factory.mktemp("impatient"), OCR_BODY_SECONDS="1") as stack:
        yield stack


@pytest.mark.parametrize("rest", [b"", b"\0" * 1200], ids=["silent", "a byte at a time"])
def test_case_8_a_client_that_sends_too_slowly_is_let_go(impatient: Stack, rest: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        client.sendall(HEAD)
        answer = trickle(client, rest)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too_slow" in answer
    assert list((impatient.data_dir / "uploads").glob("*")) == []


def test_case_8_a_client_that_sends_its_head_too_slowly_is_let_go(impatient: Stack) -> None:
    """Before it has said what it wants, there is nothing to answer."""
    with socket.create_connection(("127.0.0.1", impatient.port)) as client:
        assert trickle(client, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200) == b""
    assert "Traceback" not in impatient.log.read_text()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A web server of four threads, of which two may wait; and a worker of one process."""
    with running_stack(
        tmp_path_factory.mktemp("narrow"), OCR_WEB_THREADS="4", OCR_WORKER_PROCESSES="1"
    ) as stack:
        yield stack


def test_case_8_slow_senders_leave_room_for_others(narrow: Stack) -> None:
    stack = narrow
    with contextlib.ExitStack() as slow, stack.client() as http:
        for _ in range(2):
            client = slow.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
            client.sendall(HEAD)
        wait_until(lambda: len(list((stack.data_dir / "uploads").glob("*"))) == 2)

        refused = submit(http, PAGE)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
        assert http.get("/v1/jobs").status_code == 200
        slow.close()

        def taken() -> bool:
            return submit(http, PAGE).status_code == 202

        wait_until(taken)


def test_followers_leave_room_for_others(narrow: Stack) -> None:
    stack = narrow
    with contextlib.ExitStack() as open_streams, stack.client() as http:
        job = submit(http, SIX_PAGES, mode="force").json()
        for _ in range(2):
            client = open_streams.enter_context(stack.client())
            stream = open_streams.enter_context(client.stream("GET", job["links"]["events"]))
            assert stream.status_code == 200
        refused = http.get(job["links"]["events"])
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiting")
        assert http.get(job["links"]["self"], params={"wait": 30}).status_code == 200
        open_streams.close()

        assert wait_for_end(http, job)["state"] == "succeeded"
        assert http.get(job["links"]["events"]).status_code == 200


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with running_stack(tmp_path, OCR_JOB_SECONDS="2") as stack, stack.client() as http:
        slow = DATA / "multipage.pdf"
        job = wait_for_end(http, submit(http, slow, slow, mode="force").json())

        assert (job["state"], job["error"]["code"]) == ("failed", "job_timeout")
        assert wait_for_end(http, submit(http, ("a.pdf", documents.scan("x"))).json())["state"]


@pytest.mark.parametrize("program", ["worker", "web"])
def test_a_wrong_password_is_told_at_the_start(program: str, tmp_path: Path) -> None:
    with redis_process(tmp_path) as (url, _):
        with redis.Redis.from_url(url) as client:
            client.config_set("requirepass", "secret-of-redis")
        said = subprocess.run(
            [sys.executable, "-m", "ocr_tasks.cli", program],
            env=os.environ | {"OCR_REDIS_URL": url, "OCR_DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert said.returncode == 2
    assert "OCR_REDIS_URL: Redis refuses" in said.stderr
    assert "secret-of-redis" not in said.stderr
