"""Which jobs a worker's maintenance thread kills and requeues, with simulated requests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
import redis
from billiard.pool import RUN, TERMINATE
from celery.worker import state as celery_state

from ocr_tasks.jobs import leases, lifecycle, queues
from ocr_tasks.jobs.celery_app import OCR_DOCUMENT
from ocr_tasks.model import State
from ocr_tasks.redis import connection, keys
from ocr_tasks.worker import maintenance
from ocr_tasks.worker.maintenance import MaintenanceThread
from tests.conftest import wait_until
from tests.ocr_tasks.jobs.test_lifecycle import run_to_end, submit


class Request:
    """A request of Celery's that records whether it was killed."""

    def __init__(self, job_id: str) -> None:
        self.id, self.args, self.name = job_id, [job_id], OCR_DOCUMENT
        self.worker_pid = 0
        self.killed = False

    def terminate(self, pool: Any, signal: str) -> None:
        self.killed = True


class Consumer:
    """Celery's consumer, whose event loop runs calls at once."""

    pool = None

    @property
    def hub(self) -> Consumer:
        return self

    def call_soon(self, act: Any, *arguments: Any) -> None:
        act(*arguments)


@pytest.fixture
def thread(service: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[MaintenanceThread]:
    started = MaintenanceThread()
    monkeypatch.setattr(started, "_consumer", Consumer())
    monkeypatch.setattr(maintenance, "_sweep", lambda job_id, scratch: True)
    yield started
    celery_state.active_requests.clear()


def at_work(job_id: str) -> Request:
    request = Request(job_id)
    celery_state.active_requests.add(request)
    return request


def test_a_cancelled_job_is_killed_at_once(thread: MaintenanceThread) -> None:
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    request = at_work(job_id)
    lifecycle.cancel(job_id)

    thread._check_jobs()

    assert request.killed


def test_a_job_that_has_just_succeeded_may_end_normally(
    thread: MaintenanceThread,
) -> None:
    job_id = submit()
    request = at_work(job_id)
    run_to_end(job_id)

    thread._check_jobs()
    assert not request.killed
    celery_state.active_requests.discard(request)
    thread._check_jobs()

    assert not request.killed


def test_a_job_with_another_final_state_is_killed_at_the_next_check(
    thread: MaintenanceThread,
) -> None:
    job_id = submit()
    request = at_work(job_id)
    run_to_end(job_id)

    thread._check_jobs()
    thread._check_jobs()

    assert request.killed


def test_a_request_that_ended_meanwhile_is_not_killed(thread: MaintenanceThread) -> None:
    job_id = submit()
    request = at_work(job_id)
    celery_state.active_requests.discard(request)

    thread._kill(request)

    assert not request.killed


@pytest.fixture
def ended_child(thread: MaintenanceThread, monkeypatch: pytest.MonkeyPatch) -> int:
    """Returns the process ID of a child of the pool that has died."""
    monkeypatch.setattr(maintenance, "_kill_group", lambda pid: None)
    child = subprocess.Popen(["true"])
    child.wait()
    thread.register_child(child.pid)
    return child.pid


@pytest.fixture
def stopping() -> Iterator[None]:
    """Marks this worker as being stopped."""
    queues.stop()
    yield
    queues._stopping[0] = 0


def owned_by(thread: MaintenanceThread, pid: int) -> str:
    """Creates a job that runs in a child of the pool."""
    job_id = submit(priority="bulk")
    leases.acquire(job_id, "run", maintenance._holder(pid))
    thread._owned[pid] = job_id
    return job_id


def losses(job_id: str) -> str | None:
    found: str | None = connection.client().hget(keys.task(job_id), "losses")  # type: ignore[assignment]
    return found


def test_a_job_whose_process_died_counts_a_loss(
    thread: MaintenanceThread, ended_child: int
) -> None:
    job_id = owned_by(thread, ended_child)

    thread._handle_deaths()

    job = lifecycle.read(job_id)
    assert (job.state, job.attempt, losses(job_id)) == (State.QUEUED, 2, "1")


def test_a_process_that_died_before_the_first_check_releases_its_job(
    thread: MaintenanceThread, ended_child: int
) -> None:
    job_id, other = submit(), submit()
    leases.acquire(job_id, "run", maintenance._holder(ended_child))
    leases.acquire(other, "run", "host:1:2")

    thread._handle_deaths()

    assert (lifecycle.read(job_id).state, losses(job_id)) == (State.QUEUED, "1")
    assert (lifecycle.read(other).state, losses(other)) == (State.RUNNING, "0")


def test_a_dead_process_that_celery_does_not_know_of_releases_its_job(
    thread: MaintenanceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_kill_group", lambda pid: None)
    child = subprocess.Popen(["true"])  # a zombie until its parent waits for it
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    thread.register_child(child.pid)
    job_id = owned_by(thread, child.pid)

    thread._handle_deaths()

    assert lifecycle.read(job_id).state is State.QUEUED
    child.wait()


def test_the_death_of_a_process_is_remembered_while_redis_is_unavailable(
    thread: MaintenanceThread, ended_child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = owned_by(thread, ended_child)
    with monkeypatch.context() as away:
        away.setattr(leases, "held_by", Mock(side_effect=redis.ConnectionError))
        with pytest.raises(redis.ConnectionError):
            thread._handle_deaths()

    thread._handle_deaths()

    assert lifecycle.read(job_id).state is State.QUEUED


def test_a_living_process_keeps_its_job(thread: MaintenanceThread) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        thread.register_child(child.pid)
        job_id = owned_by(thread, child.pid)

        thread._handle_deaths()
        child.kill()

    assert lifecycle.read(job_id).state is State.RUNNING


@pytest.mark.usefixtures("stopping")
def test_a_job_whose_worker_is_stopped_counts_no_loss(
    thread: MaintenanceThread, ended_child: int
) -> None:
    job_id = owned_by(thread, ended_child)

    thread._handle_deaths()

    job = lifecycle.read(job_id)
    assert (job.state, job.attempt, losses(job_id)) == (State.QUEUED, 1, "0")


def test_a_stopping_worker_releases_its_jobs_without_a_loss(
    thread: MaintenanceThread, ended_child: int
) -> None:
    job_id = owned_by(thread, ended_child)

    thread._requeue_all()

    job = lifecycle.read(job_id)
    assert (job.state, job.attempt, losses(job_id)) == (State.QUEUED, 1, "0")


@pytest.mark.parametrize(
    ("pool", "killed"),
    [
        (None, True),
        (SimpleNamespace(_state=TERMINATE), True),
        (SimpleNamespace(_state=RUN), False),
    ],
    ids=["ended", "closed", "running"],
)
def test_idle_children_are_killed_once_their_pool_does_not_replace_them(
    thread: MaintenanceThread, monkeypatch: pytest.MonkeyPatch, pool: object, killed: bool
) -> None:
    groups: list[int] = []
    monkeypatch.setattr(maintenance, "_kill_group", groups.append)
    monkeypatch.setattr(thread, "_consumer", SimpleNamespace(pool=SimpleNamespace(_pool=pool)))
    monkeypatch.setattr(thread, "_children", {4711})
    monkeypatch.setattr(celery_state, "reserved_requests", set())

    thread._enforce_deadline()

    assert groups == ([4711] if killed else [])
