"""Liveness, readiness and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ocr_tasks import errors, metrics
from ocr_tasks.jobs import lifecycle, worker_registry
from ocr_tasks.redis import counters
from ocr_tasks.storage import store
from web import extensions
from web.extensions import Starting
from web.http.responses import json_response

blueprint = APIBlueprint(
    "health", __name__, abp_tags=[Tag(name="Operation", description="Health checks and metrics")]
)


#: Seconds after the start of this server during which a missing part counts as starting.
START_SECONDS = 30

_began = time.monotonic()

#: What to do if a part is missing.
_ADVICE = {
    "redis": "Start Redis, or correct OCR_REDIS_URL.",
    "storage": "Make OCR_DATA_DIR and the bucket of OCR_STORAGE_URL writable, or free some space.",
    "workers": "Start one with `ocr-tasks worker`, or see its log.",
}


@blueprint.get("/healthz")
def live() -> Response:
    """Check whether the web server is alive."""
    return json_response({"status": "ok", "service": "ocr-tasks"}, 200)


@blueprint.get("/readyz")
def ready() -> Response:
    """Check whether the service is ready: Redis, storage, workers, and optional parts.

    If a part is missing, the status is 503 and `parts` contains the reason. `starting` lists
    missing parts that are normal in the first seconds. After that, missing optional parts are
    only reported in `parts`, because OCR of documents does not need them.
    """
    parts = {
        "redis": _check(_ADVICE["redis"], lifecycle.counts),
        "storage": _check(_ADVICE["storage"], store.get().check_writable),
    }
    known = parts["redis"] == "ok"
    parts["workers"] = _check(_ADVICE["workers"], _need_workers) if known else _UNKNOWN
    missing = [name for name, state in parts.items() if state != "ok"]
    for extension in extensions.installed():
        for extra in extension.health_checks():
            there = parts["workers"] == "ok"
            parts[extra.name] = _check(extra.advice, extra.check) if there else _UNKNOWN
            if _starts(parts[extra.name]):
                missing.append(extra.name)
    body = {
        "status": "not ready" if missing else "ready",
        "missing": missing,
        "starting": [name for name in missing if _starts(parts[name])],
        "parts": parts,
    }
    return json_response(body, 503 if missing else 200)


@blueprint.get("/metrics")
def metrics_page() -> Response:
    """Get the metrics in the Prometheus format."""
    counters.flush()
    return Response(generate_latest(metrics.registry()), content_type=CONTENT_TYPE_LATEST)


#: State of a part that was not checked because another one is missing.
_UNKNOWN = "unknown"

_PREFIX = "starting: "


def _starts(state: str) -> bool:
    return state.startswith(_PREFIX)


def _need_workers() -> None:
    if not worker_registry.document_workers():
        raise Starting(
            "no worker has reported yet, which takes some seconds",
            f"no worker has reported for {worker_registry.LIFETIME} seconds",
        )


def _check(advice: str, question: Callable[[], object]) -> str:
    """Returns "ok", or what is wrong with a part and what to do."""
    try:
        question()
    except Starting as missing:
        if time.monotonic() - _began < START_SECONDS:
            return f"{_PREFIX}{missing.yet}"
        return f"{missing.lost}. {advice}"
    except errors.ServiceError as error:
        if isinstance(error.__cause__, redis.BusyLoadingError):
            return f"{_PREFIX}Redis is loading its data"
        return f"{error.detail or error.title}. {advice}"
    return "ok"
