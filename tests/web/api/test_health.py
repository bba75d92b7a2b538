"""What /readyz reports about each missing component."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle, worker_registry
from ocr_tasks.model import WorkerInfo
from tests.web.conftest import Configure
from web.api import health

OURS = "ocrd-ocr-tasks-recognize"


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
    assert (body["parts"]["redis"], body["parts"]["processors"]) == ("ok", "unknown")


@pytest.mark.usefixtures("long_after_start")
def test_a_lost_worker_is_not_starting(http: FlaskClient) -> None:
    body = ask(http, 503)
    assert (body["missing"], body["starting"]) == (["workers"], [])
    assert body["parts"]["workers"].startswith("no worker has reported for 15 seconds. Start")


@pytest.mark.usefixtures("just_started")
def test_processors_that_no_worker_offers_yet_are_starting(http: FlaskClient) -> None:
    worker_registry.announce(WorkerInfo("one", 1, ["eng"]))
    body = ask(http, 503)
    assert body["missing"] == body["starting"] == ["processors"]
    assert body["parts"]["processors"].startswith(f"starting: no worker offers {OURS} yet")

    worker_registry.announce(WorkerInfo("one", 1, ["eng"], processors=[OURS]))
    body = ask(http, 200)
    assert body["missing"] == body["starting"] == []
    assert set(body["parts"].values()) == {"ok"}


@pytest.mark.usefixtures("long_after_start")
def test_documents_do_not_wait_for_processors(http: FlaskClient) -> None:
    worker_registry.announce(WorkerInfo("one", 1, ["eng"]))
    body = ask(http, 200)
    assert body["parts"]["processors"].startswith(f"no running worker offers {OURS}. Start")


@pytest.mark.usefixtures("just_started")
def test_an_unavailable_processor_does_not_affect_readiness(
    service: redis.Redis, configure: Configure
) -> None:
    http = configure(processors=f"{OURS},ocrd-absent")
    worker_registry.announce(WorkerInfo("one", 1, ["eng"]))
    worker_registry.announce(WorkerInfo("two", 1, processors=[OURS]))
    body = ask(http, 200)
    assert body["parts"]["processors"].startswith("no running worker offers ocrd-absent.")


@pytest.mark.usefixtures("just_started")
def test_a_processor_that_document_workers_do_not_offer_does_not_affect_readiness(
    service: redis.Redis, configure: Configure, tmp_path: Path
) -> None:
    http = configure(ocrd_folders=str(tmp_path))
    worker_registry.announce(WorkerInfo("one", 1, ["eng"]))
    body = ask(http, 200)
    assert body["parts"]["processors"].startswith(f"no running worker offers {OURS}. Start")


@pytest.mark.usefixtures("just_started")
def test_a_service_without_processors_does_not_mention_them(
    service: redis.Redis, configure: Configure
) -> None:
    http = configure(processors="")
    worker_registry.announce(WorkerInfo("one", 1, ["eng"]))
    assert ask(http, 200)["parts"] == {"redis": "ok", "storage": "ok", "workers": "ok"}


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
