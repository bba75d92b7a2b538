"""Numbers for Prometheus, read from Redis at the time of asking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ocr_tasks import errors, jobs, keys, redis_client, workers
from ocr_tasks.model import Stage, State
from ocr_tasks.swarm import devices, queue


class _Collector:
    def collect(self) -> Iterator[Metric]:
        try:
            stats = redis_client.client().hgetall(keys.STATS)
            counts = jobs.counts()
            living = workers.living()
            swarm = queue.counts()
            present = devices.present()
        except (errors.QueueUnavailable, *redis_client.UNAVAILABLE):
            yield GaugeMetricFamily("ocr_up", "Whether Redis can be reached", 0)
            return
        yield GaugeMetricFamily("ocr_up", "Whether Redis can be reached", 1)
        yield _family(
            GaugeMetricFamily("ocr_jobs", "Jobs in each state", labels=["state"]),
            ((state, count) for state, count in counts.items()),
        )
        ended = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
        yield _family(
            CounterMetricFamily("ocr_jobs_ended", "Jobs that ended", labels=["state"]),
            ((state, float(stats.get(f"jobs_{state}", 0))) for state in ended),
        )
        for name, help_text in (
            ("jobs_submitted", "Jobs that were taken in"),
            ("takeovers", "Workers that were lost with a job"),
            ("pages", "Pages of jobs that succeeded"),
            ("pages_failed", "Pages of such jobs that could not be read"),
        ):
            yield CounterMetricFamily(f"ocr_{name}", help_text, float(stats.get(name, 0)))
        yield _family(
            CounterMetricFamily("ocr_stage_seconds", "Time by stage", labels=["stage"]),
            ((s, float(stats.get(f"seconds_{s}", 0))) for s in Stage if s is not Stage.QUEUED),
        )
        yield GaugeMetricFamily("ocr_workers", "Workers that live", len(living))
        processes = sum(worker.processes for worker in living)
        yield GaugeMetricFamily("ocr_worker_processes", "Their processes", processes)
        yield _family(
            CounterMetricFamily(
                "ocr_processing_ended", "Jobs of OCR-D processors that ended", labels=["state"]
            ),
            ((state, float(stats.get(f"processing_{state}", 0))) for state in ended),
        )
        transcripts = swarm.pop("transcripts")
        yield _family(
            GaugeMetricFamily("ocr_swarm_pages", "Pages for devices, by state", labels=["state"]),
            swarm.items(),
        )
        yield CounterMetricFamily("ocr_swarm_transcripts", "Pages that devices read", transcripts)
        yield GaugeMetricFamily("ocr_swarm_devices", "Devices seen in the last minute", present)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, rows: Iterable[tuple[str, float]]
) -> Metric:
    for label, value in rows:
        family.add_metric([label], value)
    return family


def registry() -> CollectorRegistry:
    """A registry with the service's numbers."""
    made = CollectorRegistry()
    made.register(_Collector())
    return made
