"""/readyz with OCR-D's processors."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient

from ocr_tasks.jobs import worker_registry
from ocr_tasks.model import WorkerInfo
from tests.web.api.test_health import ask
from tests.web.conftest import Configure

OURS = "ocrd-ocr-tasks-recognize"


@pytest.fixture
def http(service: redis.Redis, configure: Configure) -> FlaskClient:
    return configure()


@pytest.mark.usefixtures("just_started")
def test_processors_are_unknown_without_workers(http: FlaskClient) -> None:
    assert ask(http, 503)["parts"]["processors"] == "unknown"


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
