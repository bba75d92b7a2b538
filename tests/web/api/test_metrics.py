"""How /metrics counts requests."""

from __future__ import annotations

import redis

from tests.web.conftest import Configure
from web.app import create_app


def test_a_request_is_counted_by_its_route_and_never_by_its_path(
    service: redis.Redis, configure: Configure
) -> None:
    client = configure()
    for path in ("/v1/jobs/not-a-job", "/v1/jobs/nor-that", "/v1/nothing/here", "/healthz"):
        client.get(path)
    client.post("/healthz")

    text = client.get("/metrics").text

    count = "ocr_http_requests_total"
    assert f'{count}{{method="GET",route="/v1/jobs/{{job_id}}",status="404"}} 2.0' in text
    assert f'{count}{{method="GET",route="none",status="404"}} 1.0' in text
    assert f'{count}{{method="GET",route="/healthz",status="200"}} 1.0' in text
    assert f'{count}{{method="POST",route="none",status="405"}} 1.0' in text
    assert "not-a-job" not in text
    assert "nothing" not in text


def test_a_long_poll_does_not_count_as_slow(service: redis.Redis, configure: Configure) -> None:
    client = configure()
    client.get("/v1/jobs/not-a-job?wait=1")
    client.get("/v1/jobs/not-a-job")

    text = client.get("/metrics").text

    route = 'method="GET",route="/v1/jobs/{job_id}"'
    assert f'ocr_http_requests_total{{{route},status="404"}} 2.0' in text
    assert f"ocr_http_request_duration_seconds_count{{{route}}} 1.0" in text


def test_no_route_contains_the_separator_of_labels() -> None:
    assert not [rule.rule for rule in create_app().url_map.iter_rules() if " " in rule.rule]
