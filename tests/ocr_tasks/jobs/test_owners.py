"""Owners of jobs: visibility, and the consistency of the indexes per owner."""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis

from ocr_tasks import errors, options, settings
from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.model import JobInput, State
from ocr_tasks.redis import keys
from ocr_tasks.storage import layout
from tests.ocr_tasks.jobs.test_lifecycle import INPUT, OUTCOME, report, run_to_end

pytestmark = pytest.mark.usefixtures("service")


def submit(owner: str, own_max: int = 0, document: JobInput = INPUT) -> str:
    job_id = layout.new_id()
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")
    layout.adopt(upload, job_id)
    lifecycle.submit(job_id, document, options.from_dict({}), owner, own_max)
    return job_id


def test_a_job_knows_its_owner() -> None:
    assert lifecycle.read(submit("anna")).owner == "anna"
    assert lifecycle.read(submit("")).owner == ""


def test_the_owner_and_administrators_see_a_job() -> None:
    job_id = submit("anna")

    assert lifecycle.read(job_id, "anna").id == job_id
    assert lifecycle.read(job_id).id == job_id


@pytest.mark.parametrize("stranger", ["ben", "", "ann", "anna:"])
@pytest.mark.parametrize(
    "act",
    [
        lifecycle.read,
        lifecycle.cancel,
        lifecycle.retry,
        lifecycle.delete,
        lambda job_id, owner: lifecycle.wait(job_id, 0, 0, owner),
    ],
    ids=["read", "cancel", "retry", "delete", "wait"],
)
def test_another_owners_job_is_unknown(act: Any, stranger: str) -> None:
    job_id = submit("anna")
    before = lifecycle.read(job_id)

    with pytest.raises(errors.JobNotFound) as foreign:
        act(job_id, stranger)
    with pytest.raises(errors.JobNotFound) as unknown:
        act(layout.new_id(), stranger)

    assert str(foreign.value) == str(unknown.value)
    assert lifecycle.read(job_id) == before


def test_a_deletion_is_reported_to_the_owner_only() -> None:
    job_id = submit("anna")
    lifecycle.delete(job_id, "anna")

    with pytest.raises(errors.JobDeleted):
        lifecycle.read(job_id, "anna")
    with pytest.raises(errors.JobDeleted):
        lifecycle.read(job_id)
    with pytest.raises(errors.JobNotFound):
        lifecycle.read(job_id, "ben")
    with pytest.raises(errors.JobNotFound):
        lifecycle.delete(job_id, "ben")


def test_a_list_contains_the_jobs_of_one_owner_and_is_paged() -> None:
    mine = []
    for number in range(12):
        mine.append(submit("anna"))
        submit("ben" if number % 2 else "")

    seen: list[str] = []
    cursor = None
    while True:
        found = lifecycle.list_jobs(limit=5, cursor=cursor, owner="anna")
        seen += [job.id for job in found.jobs]
        cursor = found.next_cursor
        if cursor is None:
            break

    assert seen == mine[::-1]
    assert len(lifecycle.list_jobs(owner="ben").jobs) == 6
    assert len(lifecycle.list_jobs(owner="").jobs) == 6
    assert len(lifecycle.list_jobs().jobs) == 24
    assert lifecycle.list_jobs(owner="nobody we know").jobs == []


def test_a_list_filters_by_owner_and_state() -> None:
    done, waiting, foreign = submit("anna"), submit("anna"), submit("ben")
    run_to_end(done)
    run_to_end(foreign)

    def listed(state: State) -> list[str]:
        return [job.id for job in lifecycle.list_jobs(state, owner="anna").jobs]

    assert listed(State.SUCCEEDED) == [done]
    assert listed(State.QUEUED) == [waiting]


def test_the_indexes_of_owners_match_the_records_after_any_sequence_of_changes(
    service: redis.Redis,
) -> None:
    """Makes a thousand random steps, then compares each index with the records."""
    dice = random.Random(7)
    owners = ["anna", "ben", ""]
    made: list[tuple[str, str]] = []
    for _ in range(1000):
        step = dice.choice(["submit", "claim", "succeed", "fail", "cancel", "retry", "delete"])
        if step == "submit" or not made:
            owner = dice.choice(owners)
            made.append((submit(owner), owner))
            continue
        job_id, _owner = dice.choice(made)
        try:
            _take_step(step, job_id)
        except errors.StateError:
            continue  # not allowed in this state

    expected: dict[str, set[str]] = {}
    for job_id, owner in made:
        state = service.hget(keys.task(job_id), "state")
        if state == "deleted":
            continue
        for of in (None, owner):
            for index in (keys.jobs_in(None, of), keys.jobs_in(State(state), of)):
                expected.setdefault(index, set()).add(job_id)
    found = {key: set(service.zrange(key, 0, -1)) for key in service.scan_iter(keys.JOBS + "*")}

    assert found == expected
    assert {len(service.keys(f"*{keys.owned_by(owner)}")) for owner in owners} <= {4, 5, 6}


def _take_step(step: str, job_id: str) -> None:
    if step == "claim":
        leases.acquire(job_id, "worker", "host:1:2")
    elif step == "succeed":
        report(job_id, "worker", "SUCCESS", OUTCOME.to_dict())
    elif step == "fail":
        report(job_id, "worker", "FAILURE", errors.ToolFailed())
    else:
        getattr(lifecycle, step)(job_id)


def test_the_number_of_waiting_jobs_of_an_owner_is_limited() -> None:
    first, _second = submit("anna", 2), submit("anna", 2)
    submit("ben", 2)
    kept = len(list((settings.get().data_dir / "jobs").glob("*/*")))

    with pytest.raises(errors.LimitReached) as refused:
        submit("anna", 2)
    with pytest.raises(errors.LimitReached):
        lifecycle.check_queue("anna", 2)

    assert (refused.value.extra["limit"], refused.value.extra["most"]) == ("waiting_jobs", 2)
    assert refused.value.retry_after >= 1
    assert len(list((settings.get().data_dir / "jobs").glob("*/*"))) == kept
    assert len(lifecycle.list_jobs(owner="anna").jobs) == 2
    leases.acquire(first, "worker", "host:1:2")
    lifecycle.check_queue("anna", 2)
    submit("anna", 2)


def test_a_retry_counts_as_one_of_the_owners_waiting_jobs() -> None:
    failed = submit("anna")
    lifecycle.cancel(failed)
    submit("anna")

    with pytest.raises(errors.LimitReached):
        lifecycle.retry(failed, "anna", 1)
    assert lifecycle.read(failed).state is State.CANCELLED

    assert lifecycle.retry(failed, "anna", 2).state is State.QUEUED
