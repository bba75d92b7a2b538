"""Whether the service lives, whether it can work, and its counters."""

from __future__ import annotations

import json
from collections.abc import Callable

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ocr_tasks import errors, jobs, metrics, store, tally, workers

blueprint = APIBlueprint(
    "health", __name__, abp_tags=[Tag(name="Operation", description="For those who run it")]
)


@blueprint.get("/healthz")
def live() -> Response:
    """The web server answers."""
    return _json({"status": "ok", "service": "ocr-tasks"}, 200)


@blueprint.get("/readyz")
def ready() -> Response:
    """Redis, workers and storage are there; 503 and which is not, if one is not."""
    parts = {"redis": _check(jobs.counts), "storage": _check(store.get().check_writable)}
    parts["workers"] = _check(_need_workers) if parts["redis"] == "ok" else "unknown"
    missing = [name for name, state in parts.items() if state != "ok"]
    body = {"status": "not ready" if missing else "ready", "missing": missing, "parts": parts}
    return _json(body, 503 if missing else 200)


@blueprint.get("/metrics")
def metrics_page() -> Response:
    """Counters in the format of Prometheus."""
    tally.flush()
    return Response(generate_latest(metrics.registry()), content_type=CONTENT_TYPE_LATEST)


def _need_workers() -> None:
    if not workers.readers():
        raise errors.ServiceError("no worker has been heard of for 15 seconds")


def _check(question: Callable[[], object]) -> str:
    try:
        question()
    except errors.ServiceError as error:
        return error.detail
    return "ok"


def _json(body: object, status: int) -> Response:
    response = Response(json.dumps(body), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
