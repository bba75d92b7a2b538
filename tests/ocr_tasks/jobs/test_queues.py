"""Messages on a real Redis: their contents, queues and number."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from ocr_tasks import settings
from ocr_tasks.jobs import queues
from ocr_tasks.jobs.celery_app import QUEUES, app
from ocr_tasks.redis import keys
from ocr_tasks.storage import store

JOB = "0b0e0000-0000-4000-8000-000000000001"
OTHER = "0b0e0000-0000-4000-8000-000000000002"
INPUT = {"name": "scan.pdf", "pages": 3}
OPTIONS = {"languages": ["deu", "eng"], "mode": "skip", "priority": "normal"}


@pytest.fixture(autouse=True)
def queue(service: redis.Redis) -> redis.Redis:
    return service


def waiting(queue: redis.Redis, name: str) -> list[dict[str, Any]]:
    """Returns the messages in a queue, the one that has waited longest first."""
    return [json.loads(text) for text in queue.lrange(name, 0, -1)][::-1]


def arguments(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))[0]


@pytest.mark.parametrize("lane", ["interactive", "normal", "bulk"])
def test_the_message_of_a_job_is_appended_to_its_queue(lane: str, queue: redis.Redis) -> None:
    queues.publish(JOB, INPUT, OPTIONS, lane)
    queues.publish(OTHER, INPUT, OPTIONS, lane)

    first, second = waiting(queue, QUEUES[lane])
    assert (first["headers"]["id"], second["headers"]["id"]) == (JOB, OTHER)
    assert first["headers"]["task"] == "ocr_tasks.tasks.ocr_document"
    assert arguments(first) == [JOB, OPTIONS]
    assert queues.oldest(lane) == JOB


def test_an_empty_queue_has_no_messages() -> None:
    assert queues.oldest("normal") is None
    assert not queues.has_waiting()


@pytest.mark.parametrize("lane", QUEUES)
def test_a_message_in_any_queue_is_found(lane: str, queue: redis.Redis) -> None:
    queue.lpush(QUEUES[lane], "a message")

    assert queues.has_waiting()


@pytest.mark.parametrize(
    ("name", "pages", "shown"),
    [
        ("scan.pdf", 1, "scan.pdf · 1 page · deu+eng"),
        ("scan.pdf", 2, "scan.pdf · 2 pages · deu+eng"),
        ("a\nb\u202ec", 0, "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c · 0 pages"),
        ("n" * 80, 1, "n" * 80 + " · 1 page"),
        ("n" * 81, 1, "n" * 79 + "… · 1 page"),
    ],
)
def test_flower_shows_a_document_in_one_line(
    name: str, pages: int, shown: str, queue: redis.Redis
) -> None:
    queues.publish(JOB, {"name": name, "pages": pages}, OPTIONS, "bulk")

    (message,) = waiting(queue, QUEUES["bulk"])
    assert message["headers"]["argsrepr"].startswith(shown)
    assert message["headers"]["kwargsrepr"] == "skip, bulk"


def test_flower_shows_no_name_if_names_are_hidden(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_FLOWER_NAMES", "false")
    settings.clear()

    queues.publish(JOB, {"name": "payslip.pdf", "pages": 2}, OPTIONS, "bulk")

    (message,) = waiting(queue, QUEUES["bulk"])
    assert message["headers"]["argsrepr"] == "2 pages · deu+eng"


# Helpers


def test_as_many_helpers_are_called_as_can_join(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_HELPERS_MAX", "3")
    settings.clear()

    queues.call_helpers(JOB, "pages", "run:1", 2)
    assert len(waiting(queue, QUEUES["pages"])) == 2
    queues.call_helpers(JOB, "bulk", "run:1", 50)
    assert len(waiting(queue, QUEUES["bulk"])) == 3

    message = waiting(queue, QUEUES["pages"])[0]
    assert message["headers"]["task"] == "ocr_tasks.tasks.read_pages"
    assert arguments(message) == [JOB, "pages", "run:1"]
    assert message["headers"]["argsrepr"] == f"helps {JOB}"


def test_helpers_of_bulk_jobs_use_the_bulk_queue() -> None:
    assert queues.for_helpers("bulk") == "bulk"
    assert queues.for_helpers("normal") == "pages"
    assert queues.for_helpers("interactive") == "pages"


def test_helper_messages_of_hosts_with_their_own_folders_expire(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store.get()), "in_folder", False)

    lane = queues.for_helpers("bulk")
    queues.call_helpers(JOB, lane, "run:1", 1)

    assert lane == "pages"
    assert 0 < queue.ttl(QUEUES["pages"]) <= 24 * 3600


def test_helper_messages_in_a_shared_folder_do_not_expire(queue: redis.Redis) -> None:
    queues.call_helpers(JOB, "pages", "run:1", 1)

    assert queue.ttl(QUEUES["pages"]) == -1


def test_a_failed_call_for_helpers_is_ignored(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(app, "send_task", refuse)
    queues.call_helpers(JOB, "pages", "run:1", 1)

    assert not queues.has_waiting()


# Turns


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_TURN_SECONDS", "0")
    settings.clear()


@pytest.mark.usefixtures("short_turns")
def test_one_document_yields_per_interval(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_YIELD_INTERVAL", 3600)
    queue.lpush(QUEUES["normal"], "a message")
    turn = queues.Turn("normal")
    assert [turn.is_over(0), turn.is_over(0)] == [False, True]

    assert 0 < queue.ttl(keys.ASIDE) <= 3600
    assert not turn.is_over(0)
    queue.delete(keys.ASIDE)
    assert turn.is_over(0)


@pytest.mark.usefixtures("short_turns")
def test_a_message_that_another_worker_takes_ends_no_turn(queue: redis.Redis) -> None:
    turn = queues.Turn("normal")
    for number in range(3):
        queue.lpush(QUEUES["normal"], f"message {number}")
        assert not turn.is_over(0)
        queue.rpop(QUEUES["normal"])


def test_every_turn_ends_when_the_worker_is_stopped() -> None:
    turn = queues.Turn("normal")
    assert not queues.stopping()
    assert not turn.is_over(0)
    queues.stop()
    try:
        assert queues.stopping()
        assert turn.is_over(0)
    finally:
        queues._stopping[0] = 0


@pytest.mark.usefixtures("short_turns")
def test_a_document_does_not_yield_while_redis_is_unavailable(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.lpush(QUEUES["normal"], "a message")
    turn = queues.Turn("normal")

    def away(self: queues.Turn) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(queues.Turn, "_next_message", away)

    assert not any(turn.is_over(0) for _ in range(3))
