"""What /readyz reports about each missing component."""

from __future__ import annotations

import math
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle
from tests.web.conftest import Configure
from web.api import health


@pytest.fixture
def http(service: redis.Redis, configure: Configure) -> FlaskClient:
    return configure()


@pytest.fixture
def long_after_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_began", -math.inf)


@pytest.fixture
def just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_began", math.inf)


def ask(http: FlaskClient, status: int) -> dict[str, Any]:
    answer = http.get("/readyz")
    assert answer.status_code == status
    body = answer.json
    assert isinstance(body, dict)
    assert body["status"] == ("ready" if status == 200 else "not ready")
    return body


@pytest.mark.usefixtures("just_started")
def test_a_worker_that_has_not_reported_yet_is_starting(http: FlaskClient) -> None:
    body = ask(http, 503)
    assert body["missing"] == body["starting"] == ["workers"]
    assert body["parts"]["workers"].startswith("starting: no worker has reported yet")
    assert body["parts"]["redis"] == "ok"


@pytest.mark.usefixtures("long_after_start")
def test_a_lost_worker_is_not_starting(http: FlaskClient) -> None:
    body = ask(http, 503)
    assert (body["missing"], body["starting"]) == (["workers"], [])
    assert body["parts"]["workers"].startswith("no worker has reported for 15 seconds. Start")


def test_an_unavailable_redis_differs_from_one_that_is_loading(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cause: redis.RedisError) -> None:
        raise errors.QueueUnavailable from cause

    monkeypatch.setattr(lifecycle, "counts", lambda: fail(redis.BusyLoadingError()))
    body = ask(http, 503)
    assert body["parts"]["redis"] == "starting: Redis is loading its data"
    assert (body["missing"], body["starting"]) == (["redis", "workers"], ["redis"])

    monkeypatch.setattr(lifecycle, "counts", lambda: fail(redis.ConnectionError()))
    body = ask(http, 503)
    assert body["parts"]["redis"].endswith(
        "cannot be reached. Start Redis, or correct OCR_REDIS_URL."
    )
    assert body["starting"] == []
