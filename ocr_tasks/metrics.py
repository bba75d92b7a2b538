"""Numbers for Prometheus, read from Redis at the time of asking.

They are those of the whole service: whichever web server is asked gives the same. What they cost
does not grow with the number of jobs: they come from counters, and from the lengths of indexes.
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
from ocr_tasks.jobs.celery_app import LANES
from ocr_tasks.model import Stage, State
from ocr_tasks.redis import connection, counters, keys

_ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class _Collector:
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "ocr_build", "The version that answers", value={"version": version("ocr-tasks")}
        )
        yield from _storage()
        try:
            found = list(_service())
        except (errors.QueueUnavailable, RedisError):
            found = []
        text = "Whether Redis can be reached; if not, only this and the storage's are there"
        yield GaugeMetricFamily("ocr_up", text, 1 if found else 0)
        yield from found


def registry() -> CollectorRegistry:
    """A registry with the service's numbers."""
    made = CollectorRegistry()
    made.register(_Collector())
    return made


def _storage() -> Iterator[Metric]:
    """The room on the storage; nothing where it cannot be asked."""
    try:
        disk = shutil.disk_usage(settings.get().data_dir)
    except OSError:
        return
    text = "Bytes that are free on the storage"
    yield GaugeMetricFamily("ocr_storage_free_bytes", text, disk.free)
    yield GaugeMetricFamily("ocr_storage_size_bytes", "Bytes that the storage has", disk.total)
    yield GaugeMetricFamily(
        "ocr_storage_reserve_bytes",
        "Free bytes below which documents are refused (OCR_RESERVE_BYTES)",
        settings.get().reserve_bytes,
    )


def _service() -> Iterator[Metric]:
    """What Redis knows."""
    seen = _Seen()
    yield from _jobs(seen)
    yield from _queue(seen)
    yield from _pages(seen)
    yield from _workers(seen)
    for extension in extensions.installed():
        yield from extension.metrics(seen.stats)
    yield from _webhooks(seen)
    yield from _redis(seen)
    yield from _http(seen)


class _Seen:
    """What Redis answers, in one round trip. Times are seconds of its clock."""

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
            for lane in LANES.values():
                pipe.llen(lane)
            answers = pipe.execute()
        self.stats: Mapping[str, str] = answers[0]
        self.requests: Mapping[str, str] = answers[1]
        self.oldest: list[tuple[str, float]] = answers[2]
        self.leases, self.leases_over, self.reading = answers[3:6]
        self.outbox, self.outbox_due = answers[6:8]
        self.memory: Mapping[str, Any] = answers[8]
        lengths = iter(answers[9:])
        self.jobs = {state: next(lengths) for state in State}
        self.lanes = {lane: next(lengths) for lane in LANES}

    def count(self, name: str) -> float:
        return float(self.stats.get(name, 0))

    def counts(self, prefix: str) -> dict[str, float]:
        """The counters with this beginning, by the rest of their names."""
        return {
            name.removeprefix(prefix): float(value)
            for name, value in self.stats.items()
            if name.startswith(prefix)
        }


def _jobs(seen: _Seen) -> Iterator[Metric]:
    yield gauges_by("ocr_jobs", "Jobs in each state", "state", seen.jobs)
    yield counter("ocr_jobs_submitted", "Jobs that were taken in", seen.count("jobs_submitted"))
    ended = {state: seen.count(f"jobs_{state}") for state in _ENDED}
    yield counters_by("ocr_jobs_ended", "Jobs that ended, by their state then", "state", ended)
    # All errors, as Prometheus does not see a counter grow that begins with 1.
    codes = (code for code, error in errors.by_code().items() if issubclass(error, errors.JobError))
    failures = dict.fromkeys(sorted(codes), 0.0) | seen.counts("failed_")
    yield counters_by("ocr_job_failures", "Jobs that failed, by the error", "code", failures)
    for name, stat, help_text in (
        ("attempts", "attempts", "Times that a process took a job, for the first time or again"),
        ("retries", "retries", "Jobs that were run again as somebody asked for it"),
        ("takeovers", "takeovers", "Processes and workers that were lost with a job"),
        ("step_asides", "asides", "Jobs that made place for others, or left a worker that stopped"),
    ):
        yield counter(f"ocr_job_{name}", help_text, seen.count(stat))
    stages = {s: seen.count(f"seconds_{s}") for s in Stage if s is not Stage.QUEUED}
    text = "Seconds by stage, of jobs that succeeded"
    yield counters_by("ocr_job_stage_seconds", text, "stage", stages)
    text = "Seconds for which jobs that succeeded were worked on, in the run that ended them"
    took = seen.counts("took_")
    yield histogram(
        "ocr_job_duration_seconds", text, (), counters.DURATION_BOUNDS,
        [((), took, seen.count("seconds_total"))],
    )  # fmt: skip
    text = "Seconds for which jobs had waited when a process took them"
    waited = {name: n for name, n in seen.counts("waited_").items() if name != "seconds"}
    yield histogram(
        "ocr_job_wait_seconds", text, (), counters.WAIT_BOUNDS,
        [((), waited, seen.count("waited_seconds"))],
    )  # fmt: skip
    yield GaugeMetricFamily("ocr_job_leases", "Jobs that a worker holds", seen.leases)
    text = "Jobs whose worker gave no sign of life in time, and that nobody has taken over yet"
    yield GaugeMetricFamily("ocr_job_leases_expired", text, seen.leases_over)


def _queue(seen: _Seen) -> Iterator[Metric]:
    text = "Messages that wait in each lane: a job each, and in pages (or bulk) calls for help"
    yield gauges_by("ocr_queue_messages", text, "lane", seen.lanes)
    age = max(0.0, seen.now - seen.oldest[0][1]) if seen.oldest else 0.0
    text = "Seconds for which the job has waited that has waited longest, 0 where none waits"
    yield GaugeMetricFamily("ocr_queue_oldest_job_age_seconds", text, age)
    text = "Jobs that may wait (OCR_QUEUE_MAX)"
    yield GaugeMetricFamily("ocr_queue_limit_jobs", text, settings.get().queue_max)


def _pages(seen: _Seen) -> Iterator[Metric]:
    text = "Pages that were read, as it happens; those that a retry reads anew count again"
    yield counter("ocr_pages_read", text, seen.count("pages_read"))
    yield GaugeMetricFamily("ocr_pages_in_progress", "Pages that are being read", seen.reading)
    yield counter("ocr_pages_done", "Pages of jobs that succeeded", seen.count("pages"))
    text = "Pages of jobs that succeeded that could not be read"
    yield counter("ocr_pages_failed", text, seen.count("pages_failed"))


def _workers(seen: _Seen) -> Iterator[Metric]:
    totals = {kind: [0, 0, 0] for kind in ("documents", "processors")}
    for worker in worker_registry.living():
        total = totals["documents" if worker.takes_documents else "processors"]
        for place, number in enumerate((1, worker.processes, min(worker.busy, worker.processes))):
            total[place] += number
    for place, (name, text) in enumerate(
        (
            ("ocr_workers", "Workers that live, by what they work on"),
            ("ocr_worker_processes", "Processes of living workers"),
            ("ocr_worker_processes_busy", "Those at work at their worker's last sign of life"),
        )
    ):
        rows = {kind: total[place] for kind, total in totals.items()}
        yield gauges_by(name, text, "kind", rows)
    # By this workers are scaled. What waits alone would take away those that are at work.
    wanted = totals["documents"][2] + sum(seen.lanes.values())
    text = "Processes that documents would keep at work: those that are, and one for each message"
    yield GaugeMetricFamily("ocr_worker_processes_wanted", text, wanted)


def _webhooks(seen: _Seen) -> Iterator[Metric]:
    text = "Webhooks that are still to be sent, or sent again"
    yield GaugeMetricFamily("ocr_webhooks_pending", text, seen.outbox)
    text = "Webhooks whose time has come"
    yield GaugeMetricFamily("ocr_webhooks_due", text, seen.outbox_due)
    results = {name: seen.count(f"webhooks_{name}") for name in ("delivered", "failed", "given_up")}
    text = "Tries to send a webhook; failed ones are tried again, unless it was given up"
    yield counters_by("ocr_webhook_attempts", text, "result", results)


def _redis(seen: _Seen) -> Iterator[Metric]:
    text = "Bytes that Redis uses"
    yield GaugeMetricFamily("ocr_redis_memory_bytes", text, seen.memory.get("used_memory", 0))
    text = "Bytes that Redis may use (maxmemory), 0 for any"
    most = seen.memory.get("maxmemory", 0)
    yield GaugeMetricFamily("ocr_redis_memory_limit_bytes", text, most)


def _http(seen: _Seen) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        "ocr_http_requests",
        "Requests that were answered; route is the rule of the address, or none",
        labels=["method", "route", "status"],
    )
    classes: dict[tuple[str, str], dict[str, float]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for field, value in sorted(seen.requests.items()):
        kind, method, route, last = field.split(" ")
        if kind == "requests":
            counts.add_metric([method, route, last], float(value))
        elif kind == "took":
            classes.setdefault((method, route), {})[last] = float(value)
        else:
            seconds[method, route] = float(value)
    yield counts
    text = "Seconds until the answer began; without requests that asked to wait"
    rows = [(labels, found, seconds.get(labels, 0.0)) for labels, found in classes.items()]
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
    """Rows are the values of the labels, how many fell into each class, and the sum."""
    family = HistogramMetricFamily(name, text, labels=labels)
    classes = [*map(str, bounds), counters.MORE]
    for values, counts, total in rows:
        running = accumulate(counts.get(bound, 0.0) for bound in classes)
        family.add_metric(values, list(zip(classes, running, strict=True)), total)
    return family
