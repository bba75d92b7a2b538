"""OCR-D's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from ocr_tasks.metrics import counters_by, gauges_by
from ocr_tasks.model import State
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.redis import connection

#: States of processor jobs: those of documents, and `deferred` (waits for other jobs).
_STATES = ("deferred", *State)
_ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def collect(counters: Mapping[str, str]) -> Iterator[Metric]:
    """Returns OCR-D's metrics; `counters` is the hash `keys.STATS`."""
    with connection.client().pipeline(transaction=False) as pipe:
        for state in _STATES:
            pipe.zcard(redis_keys.processing_in(state))
        lengths = dict(zip(_STATES, pipe.execute(), strict=True))
    text = "Jobs of OCR-D processors by state"
    yield gauges_by("ocr_processing_jobs", text, "state", lengths)
    ended = {state: float(counters.get(f"processing_{state}", 0)) for state in _ENDED}
    text = "Ended jobs of OCR-D processors by final state"
    yield counters_by("ocr_processing_jobs_ended", text, "state", ended)
