"""Access control of a stack that requires tokens."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis

from tests import documents
from tests.acceptance.conftest import id_of, make_token, open_gate, revoke, run_tokens
from tests.conftest import SIX_PAGES, Stack, free_port, matching, submit, wait_for_end, wait_until
from tests.hostile.outcomes import refused
from tests.hostile.test_uploads import PNG
from tests.ocr_tasks.security.test_tokens import everything_in
from web.access import authentication, scopes
from web.app import create_app

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("closed")]

ALL = ("submit", "read", "admin", "swarm", "ocrd")
#: The scopes of the owner of the job.
OWN = ("submit", "read", "swarm")


@dataclass(frozen=True)
class Cast:
    """A stack, the tokens of several clients, and a finished job of the owner."""

    stack: Stack
    owner: str
    stranger: str
    admin: str
    expired: str
    revoked: str
    job: str
    #: Tokens with other scopes, by these.
    others: dict[tuple[str, ...], str] = field(default_factory=dict)

    def with_scopes(self, *scopes: str) -> str:
        """Returns a token with these scopes."""
        if scopes not in self.others:
            self.others[scopes] = make_token(self.stack, *scopes)
        return self.others[scopes]

    def client(self, token: str = "", address: str = "127.0.0.1") -> httpx.Client:
        """Returns a client with a token, at one of the IP addresses of loopback."""
        return httpx.Client(
            base_url=self.stack.url,
            timeout=90,
            transport=httpx.HTTPTransport(local_address=address, verify=False),
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )


@pytest.fixture(scope="module")
def cast(closed: Stack) -> Cast:
    owner = run_tokens(closed, "create", "owner", "--scopes", ",".join(OWN)).strip()
    revoked = make_token(closed, *ALL)
    run_tokens(closed, "revoke", id_of(revoked))
    with closed.client(headers={"Authorization": f"Bearer {owner}"}) as http:
        job = wait_for_end(http, submit(http, ("own.png", PNG)).json())
    return Cast(
        stack=closed,
        owner=owner,
        stranger=make_token(closed, "submit", "read", "swarm", "ocrd", name="stranger"),
        admin=make_token(closed, "admin", name="admin"),
        expired=make_token(closed, *ALL, days=1e-7),
        revoked=revoked,
        job=job["id"],
    )


# The matrix of all routes and all clients


@functools.cache
def routes() -> list[tuple[str, str, str]]:
    """Returns all routes but docr/smd's, which refuse in another way (tests/swarm/test_docr.py)."""
    return [
        (rule.rule, method, rule.endpoint)
        for rule in create_app().url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if not rule.endpoint.startswith("docr.")
    ]


#: /v1/uploads requires it before it checks anything else.
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def address(rule: str, job_id: str) -> str:
    filled = rule.replace("<job_id>", job_id).replace("<int:page>", "1")
    for name in ("<lease>", "<path:device>", "<upload_id>"):
        filled = filled.replace(name, "unknown")
    return filled.replace("<artifact>", "pdf").replace("<path:filename>", "style.css")


@pytest.mark.parametrize(("rule", "method", "endpoint"), routes(), ids=str)
def test_a_route_responds_to_each_client_as_documented(
    cast: Cast, rule: str, method: str, endpoint: str
) -> None:
    needed = scopes.required(endpoint)
    # Each test has its own IP address, because wrong tokens count against it.
    client_address = f"127.0.1.{1 + routes().index((rule, method, endpoint))}"

    def ask(token: str, job_id: str = cast.job) -> httpx.Response:
        with cast.client(token, client_address) as http:
            return http.request(method, address(rule, job_id), headers=TUS)

    bad = cast.owner[:-1] + ("0" if cast.owner[-1] != "0" else "1")
    refusals = [ask(token) for token in ("", "nonsense", bad, cast.expired, cast.revoked)]
    if needed == scopes.PUBLIC:
        assert {answer.status_code for answer in refusals} <= {200, 204, 400, 404}
        return
    for answer in refusals:
        refused(answer, 401, "not_authenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert len({answer.text for answer in refusals}) == 1

    if needed != scopes.ANY:
        others = [scope for scope in ALL if scope not in {*needed, "admin"}]
        refused(ask(cast.with_scopes(*others)), 403, "scope_missing")
    if "<job_id>" in rule:
        foreign, unknown = ask(cast.stranger), ask(cast.stranger, "0" * 8 + cast.job[8:])
        # These routes are about processor jobs, where the ID is unknown.
        of_ocrd = endpoint.startswith("ocrd_")
        refused(foreign, 404, "processing_not_found" if of_ocrd else "job_not_found")
        assert foreign.text.replace(cast.job, "") == unknown.text.replace(
            "0" * 8 + cast.job[8:], ""
        )
    unknown = (404,) if "unknown" in address(rule, "") else ()
    if endpoint.startswith("ocrd_"):  # requested with unknown resources
        unknown = (404, 422)
    for token in (cast.owner, cast.admin) if needed & set(OWN) else (cast.admin,):
        own = ask(token, _job_for(cast, token, method, rule))
        assert own.status_code in (200, 202, 204, 400, 409, *unknown), own.text


def _job_for(cast: Cast, token: str, method: str, rule: str) -> str:
    """Returns the job that all tests share, or another one if it will be deleted."""
    if method != "DELETE" or "<job_id>" not in rule:
        return cast.job
    with cast.client(cast.owner) as http:
        made: str = submit(http, ("lost.png", PNG)).json()["id"]
    return made


def test_a_document_is_uploaded_and_only_its_owner_gets_the_results(cast: Cast) -> None:
    with cast.client(cast.owner) as http:
        job = wait_for_end(http, submit(http, ("own.png", PNG)).json())
        assert job["state"] == "succeeded"
        assert job["owner"] == id_of(cast.owner)
        assert http.get(f"{job['links']['self']}/pdf").content.startswith(b"%PDF-")
        assert job["id"] in {row["id"] for row in http.get("/v1/jobs").json()["jobs"]}
    with cast.client(cast.stranger) as http:
        assert http.get("/v1/jobs").json()["jobs"] == []
        refused(http.get(f"{job['links']['self']}/pdf"), 404, "job_not_found")
    with cast.client(cast.admin) as http:
        assert job["id"] in {row["id"] for row in http.get("/v1/jobs").json()["jobs"]}
        assert http.delete(job["links"]["self"]).status_code == 204
    with cast.client(cast.owner) as http:
        refused(http.get(job["links"]["self"]), 410, "job_deleted")
    with cast.client(cast.stranger) as http:
        refused(http.get(job["links"]["self"]), 404, "job_not_found")


def test_a_zip_contains_only_the_clients_own_documents(cast: Cast) -> None:
    with cast.client(cast.owner) as http:
        assert http.get("/v1/archive", params={"id": cast.job}).content.startswith(b"PK")
    unknown = "0" * 8 + cast.job[8:]
    with cast.client(cast.stranger) as http:
        answers = [http.get("/v1/archive", params={"id": job}) for job in (cast.job, unknown)]
    foreign, missing = (refused(answer, 404, "job_not_found") for answer in answers)
    assert foreign["detail"].replace(cast.job, unknown) == missing["detail"]


def test_a_token_in_the_url_is_ignored(cast: Cast) -> None:
    with cast.client() as http:
        refused(http.get("/v1/jobs", params={"token": cast.owner}), 401, "not_authenticated")


def test_too_many_wrong_tokens_are_refused(cast: Cast) -> None:
    with cast.client("ocrt_000000000000_" + "0" * 64, "127.0.2.1") as http:
        answers = [http.get("/v1/jobs")]
        while answers[-1].status_code == 401:
            answers.append(http.get("/v1/jobs"))

    limited = answers[-1]
    assert len(answers) > 30  # OCR_LIMIT_FAILURES_MINUTE
    assert refused(limited, 429, "limit_reached")["limit"] == "failures_minute"
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    with cast.client(cast.owner, "127.0.2.1") as http:
        assert http.get("/v1/jobs").status_code == 200


def test_a_wrong_method_is_refused_with_a_list_of_allowed_ones(cast: Cast) -> None:
    with cast.client() as http:
        answer = http.put(f"/v1/jobs/{cast.job}")
    refused(answer, 405, "method_not_allowed")
    assert {"GET", "DELETE"} <= set(answer.headers["Allow"].replace(",", "").split())


def test_a_preflight_of_another_site_gets_no_permission(cast: Cast) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    with cast.client() as http:
        answer = http.options("/v1/jobs", headers=asked)

    assert not [name for name in answer.headers if name.startswith("access-control")]


# Revoked during a request


def test_a_token_that_is_revoked_during_an_upload_creates_no_job(cast: Cast) -> None:
    token = make_token(cast.stack, "submit", "read")
    uploads = cast.stack.data_dir / "uploads"

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        yield PNG
        yield b"\0" * 1024 * 1024
        wait_until(lambda: matching(uploads, "*/*"))
        revoke(cast.stack, token)
        yield b"\r\n--b--\r\n"

    with cast.client(token, "127.0.2.2") as http:
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = http.post("/v1/jobs", content=body(), headers=kind)

    refused(answer, 401, "not_authenticated")
    with cast.client(cast.admin) as http:
        newest = http.get("/v1/jobs").json()["jobs"]
    assert newest
    assert id_of(token) not in {job["owner"] for job in newest}
    wait_until(lambda: not matching(uploads, "*/*"))


def test_a_token_that_is_revoked_during_a_stream_ends_it_and_not_the_job(cast: Cast) -> None:
    token = make_token(cast.stack, "submit", "read")
    with cast.client(token, "127.0.2.3") as http:
        job = submit(http, ("gate.png", PNG), title="fault: gate").json()
        with http.stream("GET", job["links"]["events"]) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: job")
            revoke(cast.stack, token)
            rest = list(lines)
        refused(http.get(job["links"]["self"]), 401, "not_authenticated")

    assert ": not_authenticated" in rest
    open_gate(cast.stack, job)
    with cast.client(cast.admin) as http:
        assert wait_for_end(http, job)["state"] == "succeeded"


# Malformed HTTP requests


def raw(cast: Cast, request: bytes) -> tuple[int, bytes]:
    """Returns the status and the full response to these bytes; 0 without a response."""
    with socket.create_connection(("127.0.0.1", cast.stack.port), timeout=20) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


HIDDEN = b"GET /v1/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 200\r\n",
        b"Content-Length: 4, 200\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"X: y\r\n Content-Length: 4\r\n",
    ],
    ids=str,
)
def test_request_smuggling_is_refused(cast: Cast, framing: bytes) -> None:
    head = b"POST /v1/session HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n"
    status, answer = raw(cast, head + b"0\r\n\r\n" + HIDDEN % cast.owner.encode())

    assert status in (0, 400, 501), answer
    assert b'"access"' not in answer
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * 65536 + b"\r\n\r\n", 431),
        (
            b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer " + b"0" * 65536 + b"\r\n\r\n",
            431,
        ),
        (
            b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
            + b"".join(b"X-%d: y\r\n" % number for number in range(300))
            + b"\r\n",
            431,
        ),
        (b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /v1/jobs HTTP/1.1\r\nHost: \r\n\r\n", 400),
        (b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET http://evil.example/v1/jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX\0: y\r\n\r\n", 400),
    ],
    ids=["header", "token", "headers", "line", "host", "no host", "hosts", "absolute", "nul"],
)
def test_an_invalid_head_is_refused(cast: Cast, head: bytes, wanted: int) -> None:
    status, answer = raw(cast, head)

    assert status == wanted, answer[:500]
    assert b"Traceback" not in answer


# Rate limits


def test_pages_per_day_are_limited_and_a_refused_upload_is_deleted(cast: Cast) -> None:
    token = make_token(cast.stack, "submit", "read", pages_day=6)
    folders = cast.stack.data_dir / "jobs"
    with cast.client(token) as http:
        wait_for_end(http, submit(http, ("one.png", PNG)).json())
        before = set(matching(folders, "*/*"))
        problem = refused(submit(http, SIX_PAGES), 429, "limit_reached")
        assert (problem["limit"], problem["most"]) == ("pages_day", 6)
        assert 86000 < problem["retry_after"] <= 86400
        assert len(http.get("/v1/jobs").json()["jobs"]) == 1
        wait_until(lambda: set(matching(folders, "*/*")) <= before)
        assert submit(http, ("two.png", PNG)).status_code == 202


def test_uploads_per_minute_are_limited(cast: Cast) -> None:
    token = make_token(cast.stack, "submit", "read", submits_minute=2)
    with cast.client(token) as http:
        answers = [submit(http, ("bad.pdf", b"%PDF-")) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [422, 422, 429]
    assert answers[2].json()["limit"] == "submits_minute"
    assert answers[2].headers["Retry-After"] == str(answers[2].json()["retry_after"])


# Command line


def ocr(stack: Stack, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    page = target.with_name("in.pdf")
    page.write_bytes(documents.scan("garden"))
    command = [sys.executable, "-m", "ocr_tasks.cli", "ocr", str(page), str(target)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OCR_")}
    return subprocess.run(
        command,
        env={**clean, "OCR_PORT": str(stack.port), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_line_takes_its_token_from_the_environment(cast: Cast, tmp_path: Path) -> None:
    target = tmp_path / "out.pdf"

    without = ocr(cast.stack, target)
    assert without.returncode == 65
    assert "not_authenticated" in without.stderr
    assert not target.exists()

    ran = ocr(cast.stack, target, OCR_TOKEN=f"{cast.owner}\n")
    assert ran.returncode == 0, ran.stderr
    assert target.read_bytes().startswith(b"%PDF-")


@pytest.mark.slow  # `test_up.py` has a server of a command line in each run
def test_the_server_of_the_command_line_is_for_its_user_only(cast: Cast, tmp_path: Path) -> None:
    """It ignores access settings in the environment, which are for servers of several users."""
    target = tmp_path / "out.pdf"
    nobody = dataclasses.replace(cast.stack, port=free_port())

    ran = ocr(
        nobody,
        target,
        OCR_ACCESS="tokens",
        OCR_ALLOWED_NETWORKS="192.0.2.0/24",
        OCR_LIMIT_REQUESTS_MINUTE="1",
        OCR_TOKEN=cast.owner,
    )

    assert ran.returncode == 0, ran.stderr
    assert target.read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_a_large_upload_without_a_token_is_refused_with_a_reason(cast: Cast, token: str) -> None:
    with cast.client(token, "127.0.2.5") as http:
        for _ in range(2):
            answer = submit(http, ("large.pdf", b"%PDF-" + b"\0" * 30_000_000))
            refused(answer, 401, "not_authenticated")


# Places where a secret could leak


def test_no_secret_is_in_logs_redis_or_the_data_folder(cast: Cast) -> None:
    """This is checked after all methods of sending a token, including invalid ones."""
    token = make_token(cast.stack, "submit", "read", name="leaky?")
    secret = token.rpartition("_")[2]
    with cast.client(token, "127.0.2.4") as http:
        job = wait_for_end(http, submit(http, ("a.png", PNG)).json())
        http.get(job["links"]["self"])
        http.get("/v1/nothing")
        http.get("/v1/jobs", params={"cursor": "x"})
        submit(http, ("a.png", PNG), mode="nonsense")
        http.post("/v1/session", json={"token": token})
        http.post("/v1/session", json={"token": token + "x"})
        http.post("/v1/session", json={"token": [token]})
        http.get("/v1/jobs", headers={"Authorization": f"Bearer {token}\tx"})
        http.get("/v1/jobs", headers={"Authorization": f"Basic {token}"})
    with cast.client(address="127.0.2.4") as http:
        http.get("/v1/jobs", headers={"Cookie": f"{authentication.COOKIE}={token}"})
    for line in (b"Authorization: Bearer %s\0", b"Authorization Bearer %s", b"%s: x", b" %s"):
        raw(cast, b"GET /v1/jobs HTTP/1.1\r\n" + line % token.encode() + b"\r\n\r\n")
    revoke(cast.stack, token)

    log = cast.stack.log.read_bytes()
    socket_path = str(cast.stack.data_dir / "redis" / "redis.sock")
    with redis.Redis(unix_socket_path=socket_path, decode_responses=True) as client:
        stored = everything_in(client)
    files = [path for path in matching(cast.stack.data_dir, "**/*") if path.is_file()]

    assert id_of(token) in stored
    assert len(log) > 1000
    assert secret not in stored
    assert secret.encode() not in log
    assert not [path for path in files if secret.encode() in path.read_bytes()]
