"""Metrics for Prometheus."""

from __future__ import annotations

import time

import pytest
import redis
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ocr_tasks import errors, metrics, settings
from ocr_tasks.jobs import leases, lifecycle, worker_registry
from ocr_tasks.model import WorkerInfo
from ocr_tasks.redis import connection, counters, keys
from tests.ocr_tasks.jobs.test_lifecycle import OUTCOME, report, submit

pytestmark = pytest.mark.usefixtures("service")


def values(**labels: str) -> dict[str, float]:
    """Returns the values of all samples that have these labels."""
    text = generate_latest(metrics.registry()).decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }


def test_a_job_is_counted_in_each_state() -> None:
    job_id = submit()
    assert values(state="queued")["ocr_jobs"] == 1

    leases.acquire(job_id, "run", "worker")
    assert values(state="queued")["ocr_jobs"] == 0
    assert values(state="running")["ocr_jobs"] == 1
    assert values()["ocr_job_leases"] == 1

    assert leases.commit(job_id, "run", OUTCOME)
    found = values()
    assert values(state="succeeded")["ocr_jobs_ended_total"] == 1
    assert found["ocr_jobs_submitted_total"] == 1
    assert found["ocr_job_attempts_total"] == 1
    assert found["ocr_job_leases"] == 0
    assert found["ocr_pages_done_total"] == OUTCOME.pages
    assert found["ocr_job_duration_seconds_count"] == 1
    assert found["ocr_job_duration_seconds_sum"] == OUTCOME.seconds["total"]
    assert values(le="2.5")["ocr_job_duration_seconds_bucket"] == 0
    assert values(le="5.0")["ocr_job_duration_seconds_bucket"] == 1
    assert found["ocr_job_wait_seconds_count"] == 1
    assert 0 < found["ocr_job_wait_seconds_sum"] < 60


def test_failures_are_counted_by_their_error() -> None:
    for error in (errors.PageFailed("page 1: torn"), errors.JobTimeout(), errors.JobTimeout()):
        job_id = submit()
        leases.acquire(job_id, "run", "worker")
        report(job_id, "run", "FAILURE", error)

    assert values(code="job_timeout")["ocr_job_failures_total"] == 2
    assert values(code="page_failed")["ocr_job_failures_total"] == 1
    assert values(code="worker_lost")["ocr_job_failures_total"] == 0
    assert values(state="failed")["ocr_jobs_ended_total"] == 3


def test_retries_losses_and_yields_are_counted() -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "worker")
    leases.release(job_id, "worker")
    leases.acquire(job_id, "run2", "worker")
    leases.release(job_id, "worker", lost=True)
    lifecycle.cancel(job_id)
    lifecycle.backend().retry(job_id, 10, 0, "normal")

    found = values()

    assert found["ocr_job_step_asides_total"] == 1
    assert found["ocr_job_takeovers_total"] == 1
    assert found["ocr_job_attempts_total"] == 2
    assert found["ocr_job_retries_total"] == 1


def test_an_expired_lease_is_counted(service: redis.Redis) -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "worker")
    assert values()["ocr_job_leases_expired"] == 0

    service.zadd(keys.LEASES, {job_id: connection.now() - 1})

    assert values()["ocr_job_leases_expired"] == 1


def test_the_queue_has_a_length_and_an_age(service: redis.Redis) -> None:
    assert values()["ocr_queue_oldest_job_age_seconds"] == 0
    first, _ = submit(), submit()
    service.zadd(keys.AWAITED, {first: connection.now() - 100})

    assert values(lane="normal")["ocr_queue_messages"] == 2
    assert values(lane="bulk")["ocr_queue_messages"] == 0
    assert 100 <= values()["ocr_queue_oldest_job_age_seconds"] < 160


def test_a_page_is_counted_while_it_is_processed(service: redis.Redis) -> None:
    with counters.reading_page(), counters.reading_page():
        assert values()["ocr_pages_in_progress"] == 2
        counters.count_page()
    assert values()["ocr_pages_in_progress"] == 0
    assert values()["ocr_pages_read_total"] == 1

    # A page whose process died stops being counted.
    service.zadd(keys.READING, {"of a dead process": time.time() - 1})
    assert values()["ocr_pages_in_progress"] == 0
    with counters.reading_page():
        assert service.zcard(keys.READING) == 1


def test_workers_and_their_processes_are_counted_until_they_expire(service: redis.Redis) -> None:
    worker_registry.announce(WorkerInfo("one", 4, ["eng"], busy=3))
    worker_registry.announce(WorkerInfo("two", 2, ["eng"], busy=0))
    worker_registry.announce(WorkerInfo("three", 1, processors=["ocrd-dummy"]))

    found = values(kind="documents")
    assert found["ocr_workers"] == 2
    assert found["ocr_worker_processes"] == 6
    assert found["ocr_worker_processes_busy"] == 3
    assert values(kind="processors")["ocr_workers"] == 1

    service.delete(keys.WORKER_PREFIX + "one")  # as when it expires
    assert values(kind="documents")["ocr_workers"] == 1
    assert service.smembers(keys.WORKERS) == {"two", "three"}


def test_wanted_processes_are_those_for_running_and_waiting_jobs() -> None:
    assert values()["ocr_worker_processes_wanted"] == 0
    submit()
    submit()
    worker_registry.announce(WorkerInfo("one", 4, ["eng"], busy=3))
    worker_registry.announce(WorkerInfo("three", 1, processors=["ocrd-dummy"], busy=1))

    assert values()["ocr_worker_processes_wanted"] == 5


def test_requests_of_all_processes_are_added_up(service: redis.Redis) -> None:
    for _ in range(2):
        counters.count_request("GET", "/v1/jobs/{job_id}", 200, 0.002)
        counters.count_request("GET", "/v1/jobs/{job_id}", 200, 0.3)
        counters.count_request("GET", "/v1/jobs/{job_id}", 404, None)
        counters.flush()
    counters.flush()

    route = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    assert values(**route, status="200")["ocr_http_requests_total"] == 4
    assert values(**route, status="404")["ocr_http_requests_total"] == 2
    found = values(**route)
    assert found["ocr_http_request_duration_seconds_count"] == 4
    assert found["ocr_http_request_duration_seconds_sum"] == pytest.approx(0.604)
    assert values(**route, le="0.0025")["ocr_http_request_duration_seconds_bucket"] == 2
    assert values(**route, le="0.25")["ocr_http_request_duration_seconds_bucket"] == 2
    assert values(**route, le="0.5")["ocr_http_request_duration_seconds_bucket"] == 4


def test_counts_that_redis_did_not_accept_are_added_when_it_is_back(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters.count_request("GET", "/healthz", 200, 0.001)
    away = redis.Redis(unix_socket_path="/nonexistent/redis.sock")
    with monkeypatch.context() as patched:
        patched.setattr(connection, "client", lambda: away)
        counters.flush()
    counters.count_request("GET", "/healthz", 200, 0.001)
    counters.flush()

    assert values(route="/healthz", status="200")["ocr_http_requests_total"] == 2


def test_a_client_cannot_create_labels_with_invented_methods() -> None:
    for number in range(50):
        counters.count_request(f"M{number}", "none", 405, 0.001)
    counters.flush()

    assert values(route="none", method="other")["ocr_http_requests_total"] == 50


def test_without_redis_it_reports_redis_as_down(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.get().data_dir.mkdir()
    away = redis.Redis(unix_socket_path="/nonexistent/redis.sock")
    with monkeypatch.context() as patched:
        patched.setattr(connection, "client", lambda: away)
        found = values()

    assert found["ocr_up"] == 0
    assert found["ocr_storage_free_bytes"] > 0
    assert "ocr_jobs" not in found


def test_the_cost_of_a_scrape_does_not_depend_on_the_number_of_jobs(service: redis.Redis) -> None:
    """The commands that a scrape sends to Redis have constant or logarithmic cost."""
    for _ in range(3):
        submit()
    service.config_resetstat()
    generate_latest(metrics.registry())

    asked = {name.removeprefix("cmdstat_").split("|")[0] for name in service.info("commandstats")}

    # HGETALL and HMGET get counters, ZRANGE and ZRANGEBYSCORE only the oldest entry, SMEMBERS names
    # of workers.
    cheap = {"zcard", "zcount", "llen", "zrange", "hgetall", "hget", "hmget", "smembers", "mget"}
    assert asked <= cheap | {"time", "info", "config", "select", "client", "hello", "ping"}
