"""Metrics for Prometheus, read from Redis on each request.

They describe the whole service: every web server returns the same values. The cost of a request
does not grow with the number of jobs, because the values come from counters and from the lengths of
indexes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from redis import RedisError

from ocr_tasks import errors, extensions, settings
from ocr_tasks.jobs import worker_registry
from ocr_tasks.jobs.celery_app import QUEUES
from ocr_tasks.model import Stage, State
from ocr_tasks.redis import connection, counters, keys

_ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class _Collector:
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "ocr_build", "Version of the web server", value={"version": version("ocr-tasks")}
        )
        yield from _storage()
        try:
            families = list(_service())
        except (errors.QueueUnavailable, RedisError):
            families = []
        text = "1 if Redis can be reached; 0 if not, and then only the storage metrics are present"
        yield GaugeMetricFamily("ocr_up", text, 1 if families else 0)
        yield from families


def registry() -> CollectorRegistry:
    """Returns a registry with the metrics of the service."""
    collectors = CollectorRegistry()
    collectors.register(_Collector())
    return collectors


def _storage() -> Iterator[Metric]:
    """Yields the disk space of the data folder; nothing if it cannot be determined."""
    try:
        disk = shutil.disk_usage(settings.get().data_dir)
    except OSError:
        return
    text = "Free space on the storage in bytes"
    yield GaugeMetricFamily("ocr_storage_free_bytes", text, disk.free)
    yield GaugeMetricFamily("ocr_storage_size_bytes", "Size of the storage in bytes", disk.total)
    yield GaugeMetricFamily(
        "ocr_storage_reserve_bytes",
        "Free space in bytes below which documents are rejected (OCR_RESERVE_BYTES)",
        settings.get().reserve_bytes,
    )


def _service() -> Iterator[Metric]:
    """Yields the metrics that are stored in Redis."""
    snapshot = _Snapshot()
    yield from _jobs(snapshot)
    yield from _queue(snapshot)
    yield from _pages(snapshot)
    yield from _workers(snapshot)
    for extension in extensions.installed():
        yield from extension.metrics(snapshot.stats)
    yield from _webhooks(snapshot)
    yield from _redis(snapshot)
    yield from _http(snapshot)


class _Snapshot:
    """The values in Redis, read in one round trip. Times are in seconds of its clock."""

    def __init__(self) -> None:
        now = connection.now()
        self.now = now
        with connection.client().pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.STATS)
            pipe.hgetall(keys.REQUESTS)
            pipe.zrange(keys.AWAITED, 0, 0, withscores=True)
            pipe.zcard(keys.LEASES)
            pipe.zcount(keys.LEASES, "-inf", now)
            pipe.zcount(keys.READING, now, "+inf")
            pipe.zcard(keys.OUTBOX)
            pipe.zcount(keys.OUTBOX, "-inf", now)
            pipe.info("memory")
            for state in State:
                pipe.zcard(keys.jobs_in(state))
            for lane in QUEUES.values():
                pipe.llen(lane)
            replies = pipe.execute()
        self.stats: Mapping[str, str] = replies[0]
        self.requests: Mapping[str, str] = replies[1]
        self.oldest: list[tuple[str, float]] = replies[2]
        self.leases, self.leases_expired, self.reading = replies[3:6]
        self.outbox, self.outbox_due = replies[6:8]
        self.memory: Mapping[str, Any] = replies[8]
        lengths = iter(replies[9:])
        self.jobs = {state: next(lengths) for state in State}
        self.lanes = {lane: next(lengths) for lane in QUEUES}

    def count(self, name: str) -> float:
        return float(self.stats.get(name, 0))

    def counts(self, prefix: str) -> dict[str, float]:
        """Returns the counters with a prefix, by the rest of their names."""
        return {
            name.removeprefix(prefix): float(value)
            for name, value in self.stats.items()
            if name.startswith(prefix)
        }


def _jobs(snapshot: _Snapshot) -> Iterator[Metric]:
    yield gauges_by("ocr_jobs", "Jobs by state", "state", snapshot.jobs)
    yield counter("ocr_jobs_submitted", "Accepted jobs", snapshot.count("jobs_submitted"))
    ended = {state: snapshot.count(f"jobs_{state}") for state in _ENDED}
    yield counters_by("ocr_jobs_ended", "Ended jobs by final state", "state", ended)
    # All codes, because Prometheus misses the first increment of a counter that starts at 1.
    codes = (code for code, error in errors.by_code().items() if issubclass(error, errors.JobError))
    failures = dict.fromkeys(sorted(codes), 0.0) | snapshot.counts("failed_")
    yield counters_by("ocr_job_failures", "Failed jobs by error code", "code", failures)
    for name, stat, help_text in (
        ("attempts", "attempts", "Attempts to run jobs, including the first of each job"),
        ("retries", "retries", "Retries of jobs requested by clients"),
        ("takeovers", "takeovers", "Processes and workers that crashed while they ran a job"),
        (
            "step_asides",
            "asides",
            "Jobs that yielded to another job or left a worker that was stopped",
        ),
    ):
        yield counter(f"ocr_job_{name}", help_text, snapshot.count(stat))
    stages = {s: snapshot.count(f"seconds_{s}") for s in Stage if s is not Stage.QUEUED}
    text = "Seconds spent in each stage by jobs that succeeded"
    yield counters_by("ocr_job_stage_seconds", text, "stage", stages)
    text = "Seconds of the last run of jobs that succeeded"
    took = snapshot.counts("took_")
    yield histogram(
        "ocr_job_duration_seconds", text, (), counters.DURATION_BOUNDS,
        [((), took, snapshot.count("seconds_total"))],
    )  # fmt: skip
    text = "Seconds that jobs waited before a process started them"
    waited = {name: n for name, n in snapshot.counts("waited_").items() if name != "seconds"}
    yield histogram(
        "ocr_job_wait_seconds", text, (), counters.WAIT_BOUNDS,
        [((), waited, snapshot.count("waited_seconds"))],
    )  # fmt: skip
    yield GaugeMetricFamily("ocr_job_leases", "Jobs leased by a worker", snapshot.leases)
    text = "Jobs whose lease has expired and that no worker has taken over yet"
    yield GaugeMetricFamily("ocr_job_leases_expired", text, snapshot.leases_expired)


def _queue(snapshot: _Snapshot) -> Iterator[Metric]:
    text = (
        "Waiting messages by priority queue; each is a job or, in pages and bulk, a helper request"
    )
    yield gauges_by("ocr_queue_messages", text, "lane", snapshot.lanes)
    age = max(0.0, snapshot.now - snapshot.oldest[0][1]) if snapshot.oldest else 0.0
    text = "Seconds that the oldest waiting job has waited; 0 if no job is waiting"
    yield GaugeMetricFamily("ocr_queue_oldest_job_age_seconds", text, age)
    text = "Maximum number of waiting jobs (OCR_QUEUE_MAX)"
    yield GaugeMetricFamily("ocr_queue_limit_jobs", text, settings.get().queue_max)


def _pages(snapshot: _Snapshot) -> Iterator[Metric]:
    text = "Pages on which OCR was run, counted as each page ends; a retried page counts again"
    yield counter("ocr_pages_read", text, snapshot.count("pages_read"))
    yield GaugeMetricFamily(
        "ocr_pages_in_progress", "Pages on which OCR is running", snapshot.reading
    )
    yield counter("ocr_pages_done", "Pages of jobs that succeeded", snapshot.count("pages"))
    text = "Pages on which OCR failed, of jobs that succeeded"
    yield counter("ocr_pages_failed", text, snapshot.count("pages_failed"))


def _workers(snapshot: _Snapshot) -> Iterator[Metric]:
    totals = {kind: [0, 0, 0] for kind in ("documents", "processors")}
    for worker in worker_registry.running_workers():
        total = totals["documents" if worker.takes_documents else "processors"]
        for place, number in enumerate((1, worker.processes, min(worker.busy, worker.processes))):
            total[place] += number
    for place, (name, text) in enumerate(
        (
            ("ocr_workers", "Running workers by the kind of jobs they run"),
            ("ocr_worker_processes", "Processes of running workers"),
            ("ocr_worker_processes_busy", "Busy processes at the last heartbeat of their worker"),
        )
    ):
        rows = {kind: total[place] for kind, total in totals.items()}
        yield gauges_by(name, text, "kind", rows)
    # Autoscalers use this. Waiting messages alone would remove workers that are busy.
    useful = totals["documents"][2] + sum(snapshot.lanes.values())
    text = "Processes that documents could use: busy ones plus one for each waiting message"
    yield GaugeMetricFamily("ocr_worker_processes_wanted", text, useful)


def _webhooks(snapshot: _Snapshot) -> Iterator[Metric]:
    text = "Webhooks waiting for their first or next attempt"
    yield GaugeMetricFamily("ocr_webhooks_pending", text, snapshot.outbox)
    text = "Webhooks that are due now"
    yield GaugeMetricFamily("ocr_webhooks_due", text, snapshot.outbox_due)
    results = {
        name: snapshot.count(f"webhooks_{name}") for name in ("delivered", "failed", "given_up")
    }
    text = "Attempts to send a webhook by result; failed ones are retried, given_up ones are not"
    yield counters_by("ocr_webhook_attempts", text, "result", results)


def _redis(snapshot: _Snapshot) -> Iterator[Metric]:
    text = "Memory used by Redis in bytes"
    yield GaugeMetricFamily("ocr_redis_memory_bytes", text, snapshot.memory.get("used_memory", 0))
    text = "Memory limit of Redis in bytes (maxmemory); 0 if unlimited"
    most = snapshot.memory.get("maxmemory", 0)
    yield GaugeMetricFamily("ocr_redis_memory_limit_bytes", text, most)


def _http(snapshot: _Snapshot) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        "ocr_http_requests",
        "HTTP requests; route is the URL pattern, or none",
        labels=["method", "route", "status"],
    )
    classes: dict[tuple[str, str], dict[str, float]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for field, value in sorted(snapshot.requests.items()):
        kind, method, route, last = field.split(" ")
        if kind == "requests":
            counts.add_metric([method, route, last], float(value))
        elif kind == "took":
            classes.setdefault((method, route), {})[last] = float(value)
        else:
            seconds[method, route] = float(value)
    yield counts
    text = "Seconds until the response started, without long-polling requests"
    rows = [(labels, counted, seconds.get(labels, 0.0)) for labels, counted in classes.items()]
    names = ("method", "route")
    name = "ocr_http_request_duration_seconds"
    yield histogram(name, text, names, counters.REQUEST_BOUNDS, rows)


# Families


def counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def gauges_by(name: str, text: str, label: str, rows: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in rows.items():
        family.add_metric([str(value)], number)
    return family


def counters_by(name: str, text: str, label: str, rows: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, number in rows.items():
        family.add_metric([str(value)], number)
    return family


def histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    rows: Iterable[tuple[Sequence[str], Mapping[str, float], float]],
) -> Metric:
    """Returns a histogram of `rows`: label values, number of values per bucket, and their sum."""
    family = HistogramMetricFamily(name, text, labels=labels)
    classes = [*map(str, bounds), counters.MORE]
    for values, counts, total in rows:
        running = accumulate(counts.get(bound, 0.0) for bound in classes)
        family.add_metric(values, list(zip(classes, running, strict=True)), total)
    return family
