"""Alerts, dashboard and documentation use existing metrics, and all metrics are documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ocr_tasks import errors, metrics
from ocr_tasks.jobs import leases
from ocr_tasks.redis import counters
from tests.ocr_tasks.jobs.test_lifecycle import report, submit

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "ocr-tasks.json"
PAGE = ROOT / "docs" / "how-to" / "monitoring.md"
REFERENCE = ROOT / "docs" / "reference" / "metrics.md"

#: Labels that Prometheus itself adds.
OWN = {"up": {"job"}}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


EXPRESSIONS = {
    **{f"alert {rule['alert']}": rule["expr"] for rule in rules()},
    **{
        f"panel {panel['id']} {panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    },
}


@pytest.fixture
def families(service: redis.Redis) -> dict[str, Metric]:
    """Returns the metrics of /metrics by name, after each of them has a value."""
    job_id = submit()
    leases.acquire(job_id, "run", "worker")
    report(job_id, "run", "FAILURE", errors.JobTimeout())
    counters.count_request("GET", "/v1/jobs/{job_id}", 200, 0.001)
    counters.flush()
    text = generate_latest(metrics.registry()).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(families: dict[str, Metric]) -> dict[str, set[str]]:
    """Returns the labels of each name that a query can use."""
    found = {name: set(labels) for name, labels in OWN.items()}
    for family in families.values():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def uses(expression: str) -> Iterator[tuple[str, str]]:
    """Returns the metric names in a query, each with the text in braces after it."""
    yield from re.findall(r"\b(ocr_\w+|up)\b(\{.*?\}(?=[\[\s)]|$))?", expression)


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_queries_use_existing_metrics(title: str, families: dict[str, Metric]) -> None:
    there = samples(families)

    used = list(uses(EXPRESSIONS[title]))

    assert used
    for name, braces in used:
        assert name in there
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", braces)) <= there[name]
    grouped = re.findall(r"(?:by|ignoring) \(?\(([\w, ]+)\)", EXPRESSIONS[title])
    labels = {label.strip() for group in grouped for label in group.split(",")}
    assert labels <= set().union(*(there[name] for name, _ in used))


def test_a_query_of_an_unknown_metric_is_detected(families: dict[str, Metric]) -> None:
    assert list(uses('rate(ocr_no_such_total{state="x"}[5m])')) == [
        ("ocr_no_such_total", '{state="x"}')
    ]
    assert "ocr_no_such_total" not in samples(families)


def test_all_metrics_are_documented_and_nothing_else_is(families: dict[str, Metric]) -> None:
    rows = re.findall(r"^\| `(ocr_\w+)` \| (\w+) \|(.*?)\|", REFERENCE.read_text(), re.M)

    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}

    assert documented == {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families.values()
    }


def test_all_alerts_are_documented() -> None:
    documented = set(re.findall(r"^\| `(Ocr\w+)` \|", PAGE.read_text(), re.M))

    assert documented == {rule["alert"] for rule in rules()}


def test_names_follow_the_conventions_of_prometheus(families: dict[str, Metric]) -> None:
    for family in families.values():
        assert family.name.startswith("ocr_")
        assert family.documentation.strip()
        assert not re.search(r"_(ms|milli\w*|minutes|hours|kb|mb|percent)(_|$)", family.name)
        if family.type == "gauge":
            assert not family.name.endswith(("_total", "_count", "_sum"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_every_panel_has_a_position_and_its_data_source() -> None:
    (source,) = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    places: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["datasource"]["uid"] == source["uid"]
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not places & cells, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
