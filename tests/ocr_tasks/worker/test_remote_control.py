"""Celery's remote control and jobs, with a real Redis. `test_flower` tests it with workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state as celery_state
from celery.worker.control import Panel

from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.model import State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from ocr_tasks.worker import remote_control
from tests.ocr_tasks.jobs.test_lifecycle import run_to_end, submit

pytestmark = pytest.mark.usefixtures("service")


class Events:
    """Records the events that a worker would send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, kind: str, uuid: str, **_: Any) -> None:
        self.sent.append((kind, uuid))


def ask(command: str, *ids: str, **arguments: Any) -> tuple[str, list[tuple[str, str]]]:
    """Runs a command as kombu calls it; returns the response and the events."""
    events = Events()
    state = SimpleNamespace(consumer=SimpleNamespace(event_dispatcher=events))
    answer = Panel.data[command](state, task_id=list(ids), **arguments)
    return answer["ok"], events.sent


def test_both_commands_are_replaced() -> None:
    assert Panel.data["revoke"] is remote_control.revoke
    assert Panel.data["terminate"] is remote_control.terminate


@pytest.mark.parametrize("command", ["revoke", "terminate"])
def test_waiting_and_running_jobs_are_cancelled(command: str) -> None:
    waiting, running, ended = submit(), submit(), submit()
    leases.acquire(running, "run", "worker")
    run_to_end(ended)

    said, events = ask(command, waiting, running, ended, signal="SIGTERM")

    assert [lifecycle.read(name).state for name in (waiting, running)] == [State.CANCELLED] * 2
    assert lifecycle.read(ended).state is State.SUCCEEDED
    assert f"{ended}: has already ended" in said
    assert events == [("task-revoked", waiting), ("task-revoked", running)]
    # A cancelled job stays cancelled if Redis loses it, and any worker may run a retry.
    assert (layout.job(waiting).path / "end.json").exists()
    assert not {waiting, running, ended} & set(celery_state.revoked)


def test_unknown_jobs_are_ignored() -> None:
    job_id = submit()
    lifecycle.delete(job_id)

    said, events = ask("revoke", job_id, layout.new_id(), "../../etc/passwd")

    assert said.count("unknown job") == 3
    assert events == []
    assert connection.client().zcard(keys.jobs_in(None)) == 0
