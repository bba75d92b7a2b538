"""The swarm's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ocr_tasks.metrics import counter, gauges_by
from ocr_tasks.swarm import devices, queue


def collect() -> Iterator[Metric]:
    """Yields the swarm's metrics."""
    pages = queue.counts()
    transcripts, checked, unchecked = map(pages.pop, ("transcripts", "checked", "unchecked"))
    yield gauges_by("ocr_swarm_pages", "Pages for devices by state", "state", pages)
    yield counter("ocr_swarm_transcripts", "Transcripts received from devices", transcripts)
    yield counter("ocr_swarm_checked", "Transcripts that were cross-checked", checked)
    text = "Transcripts that were not cross-checked because there was no second client"
    yield counter("ocr_swarm_unchecked", text, unchecked)
    text = f"Devices seen in the last {devices.PRESENT_SECONDS} seconds"
    yield GaugeMetricFamily("ocr_swarm_devices", text, devices.present())
