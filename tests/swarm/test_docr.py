"""/page as docr/smd's clients use it, byte for byte, against a real server."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from ocr_tasks.swarm import device
from tests import documents
from tests.commands import run
from tests.conftest import Stack, free_port, wait_until
from tests.parts import web_server
from tests.receivers import answers, receiving
from tests.swarm.conftest import hocr

pytestmark = pytest.mark.acceptance

Start = Callable[..., Stack]
Run = Callable[..., str]

HOCR = hocr("words", 60, 40)


@pytest.fixture(scope="module")
def start(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Returns a function that starts web servers that share a Redis, each with its own database."""
    with contextlib.ExitStack() as life:
        databases = itertools.count(1)

        def make(port: int = 0, **settings: str) -> Stack:
            folder = tmp_path_factory.mktemp("docr")
            url = f"{redis_server}?db={next(databases)}"
            return life.enter_context(
                web_server(folder, url, port, OCR_SWARM_CHECK_SHARE="0", **settings)
            )

        yield make


@pytest.fixture(scope="module")
def stack(start: Start) -> Stack:
    return start()


@pytest.fixture(scope="module")
def guarded(start: Start) -> Stack:
    """Runs a server that requires tokens, and serves only some networks."""
    return start(OCR_ACCESS="tokens", OCR_ALLOWED_NETWORKS="127.0.0.1/32,10.0.0.0/8")


@pytest.fixture(scope="module")
def ring(start: Start) -> tuple[Stack, Stack]:
    """Runs two servers that redirect to each other, and wait a short time for devices."""
    ports = free_port(), free_port()
    first, second = (
        start(
            port=port,
            OCR_SWARM_PEERS=f"http://127.0.0.1:{other}",
            OCR_SWARM_DOCR_SECONDS="5",
        )
        for port, other in (ports, reversed(ports))
    )
    return first, second


def load(stack: Stack, folder: Path, *names: str, run: Run = run) -> None:
    """Loads images, and deletes all others."""
    for name in names:
        path = folder / "Scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (60, 40), "white").save(path)
    run(stack, "swarm", "purge", "--all")
    where = ["--transcripts", str(folder / "transcripts"), "--name", folder.name.lower()[:40]]
    run(stack, "swarm", "load", str(folder / "Scans"), *where)


def run_program(stack: Stack, *words: str) -> str:
    """Returns the output of a command, in its own process."""
    command = [sys.executable, "-m", "ocr_tasks.cli", *words]
    done = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def get(stack: Stack, key: str = "", path: str = "/page") -> httpx.Response:
    """Sends the request for a page, with the headers of the published client."""
    return httpx.get(f"{stack.url}{path}", headers={"X-Auth-Key": key}, verify=False)


def put(
    stack: Stack, body: bytes, path: str = "/page", method: str = "PUT", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{stack.url}{path}", content=body, headers=named, verify=False)


def key_of(answer: httpx.Response) -> str:
    """Returns the key of a page, parsed from the header like the published client does it."""
    return answer.headers["Content-Disposition"][17:].strip('"')


def published_put(answer: httpx.Response, body: bytes) -> int:
    """Sends a transcript like the published client: bare key, no X-Auth-Key, no Content-Type."""
    headers = {"User-Agent": "python-requests/2.31.0", "Content-Disposition": key_of(answer)}
    # An empty transcript is sent without chunks.
    content: bytes | Iterator[bytes] = body or iter(())
    told = httpx.put(answer.headers["X-docr-Server-URL"], content=content, headers=headers)
    sent = told.request.headers
    assert ("Content-Length" in sent) == bool(body)
    assert "Content-Type" not in sent
    assert told.content == b"" or told.is_error
    return told.status_code


def test_the_exchange_of_the_published_client_works(stack: Stack, tmp_path: Path) -> None:
    load(stack, tmp_path, "sub dir/b.tif", run=run_program)
    answer = get(stack)
    name = tmp_path.name.lower()[:40]

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/tiff"
    said = answer.headers["Content-Disposition"]
    assert said == f'inline; filename="{name}/sub%20dir/b.tif"'
    where = answer.headers["X-docr-Server-URL"]
    assert where.startswith(f"http://127.0.0.1:{stack.port}/page?lease=")
    assert answer.content[:2] in (b"II", b"MM")
    assert get(stack).status_code == 204
    assert published_put(answer, b"The words\n") == 200
    assert (tmp_path / "transcripts/sub dir/b.txt").read_bytes() == b"The words\n"


def test_a_blank_page_has_an_empty_transcript(stack: Stack, tmp_path: Path) -> None:
    load(stack, tmp_path, "a.jpg")
    answer = get(stack)

    assert published_put(answer, b"") == 200
    assert (tmp_path / "transcripts/a.txt").read_bytes() == b""
    assert get(stack).status_code == 204


def test_repeating_a_put_has_no_effect(stack: Stack, tmp_path: Path) -> None:
    load(stack, tmp_path, "a.jpg")
    answer = get(stack)

    assert [published_put(answer, b"words") for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("form", ["{}", 'inline; filename="{}"'])
def test_the_key_is_sufficient_if_no_token_is_needed(
    stack: Stack, tmp_path: Path, method: str, form: str
) -> None:
    load(stack, tmp_path, "a.jpg")
    answer = get(stack)
    told = put(stack, b"words", method=method, Content_Disposition=form.format(key_of(answer)))

    assert told.status_code == 200
    assert (tmp_path / "transcripts/a.txt").read_bytes() == b"words"


def test_a_head_request_leases_nothing(stack: Stack, tmp_path: Path) -> None:
    load(stack, tmp_path, "a.jpg")
    assert httpx.head(f"{stack.url}/page").status_code == 405

    assert get(stack).status_code == 200


TRICKS = [
    "/etc/passwd",
    "../../../../tmp/evil.php",
    'inline; filename="../../evil.txt"',
    "%2e%2e%2f%2e%2e%2fevil.txt",
    "scans/../../evil.jpg",
    "a\\..\\..\\evil",
    "x" * 5000,
    "",
    '""',
    "\xff\xfe",
    "%00",
]


@pytest.mark.parametrize("key", TRICKS)
def test_no_name_writes_outside_the_folder(stack: Stack, tmp_path: Path, key: str) -> None:
    load(stack, tmp_path, "a.jpg")
    before = set(tmp_path.rglob("*"))
    headers = {b"Content-Disposition": key.encode("latin-1")}
    told = httpx.put(f"{stack.url}/page", content=b"<?php evil", headers=headers)

    assert told.status_code == 404
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("lease", ["", "x", "../..", f"{'0' * 32}-{'0' * 32}"])
def test_an_invented_lease_writes_nothing(stack: Stack, tmp_path: Path, lease: str) -> None:
    load(stack, tmp_path, "a.jpg")
    key = key_of(get(stack))
    told = put(stack, b"x", f"/page?lease={lease}", Content_Disposition=key)

    assert told.status_code in (404, 410)
    assert not (tmp_path / "transcripts").exists()


def test_a_transcript_of_50_megabytes_is_refused(stack: Stack, tmp_path: Path) -> None:
    load(stack, tmp_path, "a.jpg")
    answer = get(stack)
    path = answer.headers["X-docr-Server-URL"].partition(str(stack.port))[2]
    assert put(stack, b"x" * 50_000_000, path).status_code == 413
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as endless:
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        endless.sendall(head.encode())
        for _ in range(10):
            endless.sendall(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        endless.sendall(b"0\r\n\r\n")
        assert b" 413 " in endless.recv(1000)

    assert published_put(answer, b"words") == 200


def test_tokens_are_required_but_not_for_the_transcript(guarded: Stack, tmp_path: Path) -> None:
    load(guarded, tmp_path, "a.jpg", "b.jpg")
    good = run(guarded, "tokens", "create", "tablet", "--scopes", "swarm").strip()
    other = run(guarded, "tokens", "create", "reader", "--scopes", "read").strip()
    for wrong in ("", "wrong", f"{good[:-1]}x", other):
        refused = get(guarded, wrong)
        assert (refused.status_code, refused.content) == (403, b"")
    answer = get(guarded, good)
    assert answer.status_code == 200

    assert published_put(answer, b"words") == 200
    assert (tmp_path / "transcripts/a.txt").read_bytes() == b"words"


def test_the_key_is_not_sufficient_if_tokens_are_needed(guarded: Stack, tmp_path: Path) -> None:
    load(guarded, tmp_path, "a.jpg")
    good = run(guarded, "tokens", "create", "tablet", "--scopes", "swarm").strip()
    answer = get(guarded, good)
    for headers, status in (({}, 403), ({"X_Auth_Key": good}, 200)):
        told = put(guarded, b"words", Content_Disposition=key_of(answer), **headers)
        assert told.status_code == status


def test_a_device_that_never_responds_keeps_no_page(
    ring: tuple[Stack, Stack], tmp_path: Path
) -> None:
    stack, _ = ring
    load(stack, tmp_path, "a.jpg")
    assert get(stack).status_code == 200
    assert get(stack).status_code == 303  # no page is left here
    wait_until(lambda: get(stack).status_code == 200)
    run(stack, "swarm", "purge", "--all")


def test_other_ip_addresses_get_403(guarded: Stack) -> None:
    run(guarded, "swarm", "purge", "--all")
    token = run(guarded, "tokens", "create", "tablet", "--scopes", "swarm").strip()
    forged = {"X-Forwarded-For": "10.0.0.1", "Client-IP": "10.0.0.1", "X-Auth-Key": token}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
        assert other.get(f"{guarded.url}/page", headers=forged).status_code == 403
    assert get(guarded, token).status_code == 204


def test_three_servers_in_a_row_redirect_a_client_to_the_one_with_pages(
    stack: Stack, start: Start, tmp_path: Path
) -> None:
    second = start(OCR_SWARM_PEERS=stack.url)
    first = start(OCR_SWARM_PEERS=second.url)
    load(stack, tmp_path, "a.jpg")
    documents.picture("words").save(tmp_path / "Scans/page.png")
    run(stack, "swarm", "load", str(tmp_path / "Scans"), "--name", "more")
    seen = []
    answer = get(first)
    while answer.status_code == 303:
        where = answer.headers["Location"]
        seen.append(where.partition("?")[0])
        server = second if where.startswith(second.url) else stack
        answer = get(server, path=where.partition(server.url)[2])

    assert seen == [f"{second.url}/page", f"{stack.url}/page"]
    assert answer.status_code == 200
    assert published_put(answer, b"words") == 200
    # The client of this project follows the same redirects, and finds the other page.
    run_program(first, "swarm", "join", first.url, "--until-empty")
    assert "waiting      0" in run(stack, "swarm", "stats")


def test_a_device_skips_servers_that_it_cannot_use_and_sends_its_token_to_none_of_them(
    stack: Stack, start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(stack, tmp_path, "a.jpg")
    dead = f"http://127.0.0.1:{free_port()}"
    with receiving() as receiver:
        receiver.answer = answers(401)
        stranger = receiver.url.removesuffix("/hook")
        home = start(OCR_ACCESS="tokens", OCR_SWARM_PEERS=f"{dead},{stranger},{stack.url}")
        token = run(home, "tokens", "create", "laptop", "--scopes", "swarm").strip()
        laptop = device.Device(home.url, token, "laptop", 1, ["eng"], lambda *_: HOCR.decode())
        laptop.work(until_empty=True)

    assert (tmp_path / "transcripts/a.txt").read_text() == "words"
    assert laptop.done.servers == {stack.url: 1}
    assert ["Authorization" in headers for headers, _ in receiver.got] == [False]
    for skipped in (dead, stranger):
        assert caplog.text.count(f"skipping the server {skipped}") == 1


def test_servers_that_name_each_other_do_not_redirect_a_client_in_a_circle(
    ring: tuple[Stack, Stack],
) -> None:
    first, second = ring
    # Not the client of other tests, which may have been redirected a moment ago.
    answer = httpx.get(f"{first.url}/page", headers={"User-Agent": "another client"})
    assert answer.status_code == 303
    path = answer.headers["Location"].partition(second.url)[2]

    assert get(second, path=path).status_code == 204
