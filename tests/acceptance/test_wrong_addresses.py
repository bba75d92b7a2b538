"""Unknown URLs and methods that are not allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Stack
from tests.hostile.outcomes import refused

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/x", 404, "job_not_found"),
        ("GET", "/v1/jobs/..%2f..%2fetc", 404, None),
        ("GET", "/v1/jobs/00000000-0000-4000-8000-000000000000", 404, "job_not_found"),
        ("GET", "/v1/jobs/00000000-0000-4000-8000-000000000000/docx", 404, "not_found"),
        ("POST", "/v1/jobs/x/cancel", 404, "job_not_found"),
        ("DELETE", "/v1/jobs/x", 404, "job_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "malformed_request"),
        ("GET", "/v1/jobs?state=lost", 400, "malformed_request"),
        ("GET", "/v1/jobs?cursor=x", 400, "malformed_request"),
        ("GET", "/static/../app.py", 404, "not_found"),
    ],
)
def test_an_invalid_request_gets_a_problem_document(
    http: httpx.Client, method: str, address: str, status: int, code: str | None
) -> None:
    answer = http.request(method, address)
    refused(answer, status, code or answer.json()["code"])
    if status == 405:
        assert "POST" in answer.headers["Allow"]


#: More than the buffers of both ends of a connection hold.
LARGE = 32 << 20


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("method", "address", "status"),
    [("POST", "/v1/nothing", 404), ("PUT", "/ocrd/nothing/at/all", 404), ("PUT", "/v1/jobs", 405)],
)
def test_a_client_that_sends_a_large_body_first_gets_the_response(
    stack: Stack, method: str, address: str, status: int, chunked: bool
) -> None:
    """`http.client` reads the response only after it has sent everything."""

    def body() -> Iterator[bytes]:
        for _ in range(LARGE >> 20):
            yield bytes(1 << 20)

    headers = {} if chunked else {"Content-Length": str(LARGE)}
    server = urlsplit(stack.url)
    with closing(HTTPConnection(server.hostname or "", server.port, timeout=60)) as connection:
        connection.request(method, address, body(), headers, encode_chunked=chunked)

        assert connection.getresponse().status == status


def test_other_sites_get_no_cors_headers(http: httpx.Client) -> None:
    answer = http.options("/v1/jobs", headers={"Origin": "https://evil.example"})

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
