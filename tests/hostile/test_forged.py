"""T2: an attacker can write to Redis, and forges messages and records."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kombu
import pytest
import redis

from ocr_tasks.jobs.celery_app import OCR_DOCUMENT, QUEUES, READ_PAGES
from ocr_tasks.redis import keys
from ocr_tasks.settings import Settings
from tests import documents
from tests.conftest import Stack, submit, wait_for_end, wait_until
from tests.hostile.outcomes import code, refused

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("hostile")]

ID = "00000000-0000-4000-8000-000000000000"


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self._path), "w")


def pickled(folder: Path) -> str:
    """Returns the name of a batch with files of an attacker: /tmp/x/batches/1/task."""
    batch = folder / "batches" / "1"
    batch.mkdir(parents=True)
    (batch / "task").write_bytes(pickle.dumps((Evil(folder / "ran"), None)))
    return f"{folder}:1"


def sent(stack: Stack, task: str, arguments: list[Any], task_id: str = ID, **more: Any) -> None:
    """Publishes a message as Celery does (protocol 2), to all queues but the first."""
    url = Settings(data_dir=stack.data_dir, redis_url="").celery_redis
    body = [arguments, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    headers = {"task": task, "id": task_id, "lang": "py", "retries": 0, "root_id": task_id}
    with kombu.Connection(url.replace("socket://", "redis+socket://", 1)) as connection:
        producer = kombu.Producer(connection)
        options = {"serializer": "json", **more}
        producer.publish(
            body,
            routing_key=QUEUES["normal"],
            exchange="",
            headers=headers,
            correlation_id=task_id,
            **options,
        )


@pytest.fixture
def client(stack: Stack) -> Iterator[redis.Redis]:
    path = Settings(data_dir=stack.data_dir, redis_url="").redis_socket
    with redis.Redis(unix_socket_path=str(path), decode_responses=True) as opened:
        yield opened


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (OCR_DOCUMENT, ["../../../etc", {}]),
        (OCR_DOCUMENT, [ID, {}]),
        (OCR_DOCUMENT, [ID, {"plugins": "/tmp/evil.py"}]),
        (OCR_DOCUMENT, [{"__class__": "os.system"}, "x"]),
        (OCR_DOCUMENT, []),
        (OCR_DOCUMENT, ["x" * 1_000_000, {"y": "z" * 1_000_000}]),
        (READ_PAGES, ["../../../etc", "normal", f"{ID}:1"]),
        (READ_PAGES, [ID, "normal", "../../..:1"]),
        (READ_PAGES, [ID, "nowhere", "::"]),
        ("os.system", ["touch /tmp/evil"]),
        ("ocr_tasks.tasks.nothing", []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_t2_a_forged_task_has_no_effect(
    stack: Stack, http: httpx.Client, task: str, arguments: list[Any]
) -> None:
    sent(stack, task, arguments)

    job = submit(http, ("a.pdf", documents.scan("after"))).json()
    assert code(wait_for_end(http, job)) == "succeeded"
    assert http.get(f"/v1/jobs/{ID}").status_code == 404
    assert not Path("/tmp/evil").exists()


def test_t2_a_forged_pickle_is_not_loaded(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    """Neither as a message, nor from the files of a batch that are stored elsewhere."""
    job = submit(http, ("a.pdf", documents.scan("forged"))).json()
    assert code(wait_for_end(http, job)) == "succeeded"

    kombu.enable_insecure_serializers(["pickle"])
    try:
        sent(stack, OCR_DOCUMENT, [Evil(tmp_path / "message"), {}], serializer="pickle")
    finally:
        kombu.disable_insecure_serializers()
    sent(stack, READ_PAGES, [job["id"], "normal", pickled(tmp_path / "batch")])

    after = submit(http, ("a.pdf", documents.scan("after"))).json()
    assert code(wait_for_end(http, after)) == "succeeded"
    wait_until(lambda: "not the name of a file" in stack.log.read_text())
    assert not (tmp_path / "message").exists()
    assert not (tmp_path / "batch" / "ran").exists()


def test_t2_a_forged_record_does_not_lead_to_other_files(
    stack: Stack, http: httpx.Client, client: redis.Redis
) -> None:
    job = wait_for_end(http, submit(http, ("a.pdf", documents.scan("record"))).json())
    elsewhere = stack.data_dir / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.pdf").write_text("secret")
    key = keys.task(job["id"])
    meta = json.loads(client.hget(key, "meta") or "")
    meta["result"]["run"] = str(elsewhere)
    client.hset(key, "meta", json.dumps(meta))

    answer = http.get(f"{job['links']['self']}/pdf")

    assert "secret" not in answer.text
    refused(answer, 500, "internal")
