"""Unknown URLs and methods that are not allowed."""

from __future__ import annotations

import httpx
import pytest

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


def test_other_sites_get_no_cors_headers(http: httpx.Client) -> None:
    answer = http.options("/v1/jobs", headers={"Origin": "https://evil.example"})

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
