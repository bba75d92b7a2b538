"""Repeated requests, with a real Redis."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from ocr_tasks import errors, options, settings
from ocr_tasks.jobs import idempotency, leases, lifecycle
from ocr_tasks.model import Job, PageFailure
from ocr_tasks.storage import layout
from tests.ocr_tasks.jobs.test_lifecycle import INPUT, OUTCOME

pytestmark = pytest.mark.usefixtures("service")


def send(key: str | None = None, sha256: str = "a", owner: str = "", languages: str = "eng") -> Job:
    """Reserves a key and submits a job, like the API."""
    chosen = options.from_dict({"languages": [languages]})
    asked = idempotency.request(owner, key, sha256, chosen.model_dump_json())
    known = lifecycle.find_earlier(asked)
    if known:
        return known
    job_id = layout.new_id()
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")
    layout.adopt(upload, job_id)
    return lifecycle.submit(job_id, INPUT, chosen, owner, request=asked)


def finish(job: Job, **changes: object) -> None:
    leases.acquire(job.id, "run", "host:1:2")
    layout.job(job.id).run("run").mkdir(parents=True)
    assert leases.commit(job.id, "run", dataclasses.replace(OUTCOME, **changes))  # type: ignore[arg-type]


def folders() -> int:
    return len(list((settings.get().data_dir / "jobs").glob("*/*")))


def test_the_same_request_with_the_same_key_returns_the_same_job() -> None:
    first = send("key")

    assert send("key").id == first.id
    assert send('"key"').id == first.id
    assert folders() == 1


def test_without_a_key_each_request_creates_a_job() -> None:
    assert send().id != send().id


def test_another_request_with_the_same_key_is_refused() -> None:
    send("key")

    for other in ({"sha256": "b"}, {"languages": "deu"}):
        with pytest.raises(errors.IdempotencyMismatch):
            send("key", **other)
    assert folders() == 1


def test_keys_are_per_client() -> None:
    assert send("key", owner="me").id != send("key", owner="them", sha256="b").id


def test_two_concurrent_requests_create_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "find_earlier", lambda asked: None)
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.append(send("key").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 8
    assert len(set(made)) == 1
    assert folders() == 1


def test_the_key_of_a_deleted_job_creates_no_new_job() -> None:
    lifecycle.delete(send("key").id)

    with pytest.raises(errors.JobDeleted):
        send("key")


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "käse", "a\nb"])
def test_an_invalid_key_is_refused(key: str) -> None:
    with pytest.raises(errors.MalformedRequest):
        send(key)


@pytest.fixture
def reusing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_REUSE_RESULTS", "true")
    settings.clear()


@pytest.mark.usefixtures("reusing")
def test_a_finished_document_is_not_processed_again() -> None:
    first = send()
    assert send().id == first.id  # it is waiting
    finish(first)

    assert send().id == first.id
    assert send(languages="deu").id != first.id
    assert send(sha256="b").id != first.id
    assert send(owner="them").id != first.id


@pytest.mark.usefixtures("reusing")
def test_an_unsuccessful_job_is_not_reused() -> None:
    first = send()
    lifecycle.cancel(first.id)
    second = send()
    assert second.id != first.id
    finish(second, failed_pages=(PageFailure(1, "page_timeout", "too slow"),))
    third = send()
    assert third.id != second.id
    finish(third)
    layout.delete_tree(layout.job(third.id).run("run"))
    fourth = send()
    assert fourth.id != third.id
    lifecycle.delete(fourth.id)
    assert send().id != fourth.id
