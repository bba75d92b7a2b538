"""Processor jobs that wait for others, with a real Redis: dependencies, locks, continuations."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis
from celery.result import AsyncResult

from ocr_tasks import errors
from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.jobs.celery_app import app
from ocr_tasks.model import Progress, State
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import queueing, records, redis_keys
from ocr_tasks.ocrd.model import Run
from ocr_tasks.ocrd.records import PlannedRun
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout
from ocr_tasks.worker import recovery
from tests.ocr_tasks.worker.test_remote_control import ask

pytestmark = pytest.mark.usefixtures("service")

DUMMY = "ocrd-dummy"


def planned(
    *outputs: str,
    pages: Sequence[str] | None = None,
    after: Sequence[PlannedRun] = (),
    workspace: str = "w1",
    **other: Any,
) -> PlannedRun:
    fields = {
        "callback": False,
        "result_queue": "",
        "message": "",
        "workflow": "",
        "owner": "",
    } | other
    return PlannedRun(
        id=layout.new_id(),
        job={"run": {}, "owner": fields["owner"]},
        created=time.time(),
        processor=DUMMY,
        workspace=workspace,
        outputs=outputs,
        pages=pages,
        depends_on=[row.id for row in after],
        **fields,
    )


def put(*rows: PlannedRun) -> list[int]:
    answers = records.create(rows)
    queueing.publish_ready()
    return answers


def state(row: PlannedRun) -> str:
    return str(connection.client().hget(keys.task(row.id), "state"))


def states(*rows: PlannedRun) -> list[str]:
    return [state(row) for row in rows]


def messages() -> list[str]:
    rows = connection.client().lrange(DUMMY, 0, -1)
    return [json.loads(row)["headers"]["id"] for row in reversed(rows)]


def claim(row: PlannedRun, token: str = "token", holder: str = "host:1:2") -> bool:
    return lifecycle.backend().acquire(row.id, token, holder, Progress(started_at=time.time()))


def end(row: PlannedRun, how: State = State.SUCCEEDED) -> None:
    assert claim(row)
    result = {} if how is State.SUCCEEDED else error_of(ocrd_errors.ProcessorFailed("why"))
    assert lifecycle.backend().finish(row.id, "token", how, result)
    queueing.publish_ready()


def error_of(error: errors.JobError) -> Any:
    return lifecycle.backend().prepare_exception(error)


def test_a_job_without_dependencies_is_queued_for_its_processor() -> None:
    job = planned("A")

    assert put(job) == [1]

    assert state(job) == "queued"
    assert messages() == [job.id]


def test_a_job_waits_until_all_its_dependencies_have_succeeded() -> None:
    first, second = planned("A"), planned("B")
    third = planned("C", after=[first, second])
    put(first, second, third)
    assert state(third) == "deferred"

    end(first)
    assert state(third) == "deferred"
    end(second)

    assert state(third) == "queued"
    assert messages()[-1] == third.id


def test_a_failure_cancels_dependent_jobs_and_nothing_else() -> None:
    first = planned("A")
    second = planned("B", after=[first])
    third = planned("C", after=[second])
    other = planned("D")
    put(first, second, third, other)

    end(first, State.FAILED)

    assert states(first, second, third, other) == ["failed", "cancelled", "cancelled", "queued"]
    record = connection.client().hgetall(keys.task(third.id))
    assert json.loads(record["meta"])["result"]["code"] == "dependency_failed"


def test_a_job_that_depends_on_a_failed_one_is_cancelled_at_once() -> None:
    first = planned("A")
    put(first)
    end(first, State.FAILED)
    late = planned("B", after=[first])

    put(late)

    assert state(late) == "cancelled"


def test_a_job_that_depends_on_a_succeeded_one_begins_at_once() -> None:
    first = planned("A")
    put(first)
    end(first)
    late = planned("B", after=[first])

    put(late)

    assert state(late) == "queued"


def test_a_job_cannot_depend_on_an_unknown_one() -> None:
    assert put(planned("B", after=[planned("A")])) == [-2]


def test_cancelling_a_waiting_job_cancels_its_dependent_jobs() -> None:
    first = planned("A")
    second = planned("B", after=[first])
    third = planned("C", after=[second])
    put(first, second, third)

    assert lifecycle.backend().cancel(second.id)

    assert states(first, second, third) == ["queued", "cancelled", "cancelled"]
    end(first)
    assert state(second) == "cancelled"


@pytest.mark.parametrize(
    ("one", "other"),
    [(None, None), (None, ["P1"]), (["P1"], None), (["P1", "P2"], ["P2", "P3"])],
    ids=["all_all", "all_page", "page_all", "overlap"],
)
def test_two_jobs_that_write_the_same_pages_of_a_group_never_run_at_once(
    one: list[str] | None, other: list[str] | None
) -> None:
    first, second = planned("A", "B", pages=one), planned("X", "B", pages=other)
    put(first, second)
    assert states(first, second) == ["queued", "deferred"]

    end(first)

    assert states(first, second) == ["succeeded", "queued"]
    end(second)
    assert connection.client().hgetall(f"{redis_keys.OCRD}locks:w1").get("B #", "0") == "0"


def test_other_pages_groups_and_workspaces_are_not_locked() -> None:
    rows = [
        planned("A", pages=["P1"]),
        planned("A", pages=["P2"]),
        planned("B"),
        planned("A", workspace="w2"),
    ]

    put(*rows)

    assert states(*rows) == ["queued"] * 4


def test_a_released_lock_goes_to_one_waiting_job() -> None:
    first, second, third = planned("A"), planned("A"), planned("A")
    put(first, second, third)

    end(first)
    assert states(second, third) == ["queued", "deferred"]
    end(second, State.FAILED)

    assert states(second, third) == ["failed", "queued"]


def test_a_lost_worker_keeps_the_lock_of_its_job_which_is_requeued() -> None:
    first, second = planned("A"), planned("A")
    put(first, second)
    assert claim(first)
    connection.client().delete(DUMMY)
    connection.client().zadd(keys.LEASES, {first.id: connection.now() - 1})

    recovery.take_over()

    assert states(first, second) == ["queued", "deferred"]
    assert messages() == [first.id]
    assert not lifecycle.backend().finish(first.id, "token", State.SUCCEEDED, {})
    end(first)
    assert state(second) == "queued"


def test_a_job_that_lost_too_many_workers_fails_and_cancels_its_dependent_jobs() -> None:
    first = planned("A")
    second = planned("B", after=[first])
    put(first, second)
    while claim(first):
        connection.client().zadd(keys.LEASES, {first.id: connection.now() - 1})
        leases.release(first.id, lost=True)

    assert states(first, second) == ["failed", "cancelled"]


def test_a_lost_message_is_sent_again() -> None:
    job = planned("A")
    put(job)
    connection.client().delete(DUMMY)
    connection.client().zadd(keys.AWAITED, {job.id: connection.now() - 60}, xx=True)

    recovery.publish_lost()

    assert messages() == [job.id]


def test_a_large_workspace_does_not_delay_others() -> None:
    large = [planned("A", pages=[f"P{number}"]) for number in range(500)]
    put(*large)
    small = planned("A", workspace="w2")

    put(small)
    sent = messages()
    for row in large[: len(sent) // 2]:
        connection.client().rpop(DUMMY)
        end(row)

    assert 1 < len(sent) < 100
    assert small.id in messages()
    assert connection.client().zcard(keys.AWAITED) < 100
    recovery.publish_lost()
    assert len(messages()) < 100


def test_a_processor_without_workers_does_not_delay_others_in_a_workspace() -> None:
    lost = [
        dataclasses.replace(planned("A", pages=[f"P{number}"]), processor="ocrd-lost")
        for number in range(100)
    ]
    put(*lost)
    job = planned("B")

    put(job)

    assert messages() == [job.id]


def test_jobs_for_a_processor_without_workers_are_not_inspected_each_time(
    service: redis.Redis,
) -> None:
    lost = [
        dataclasses.replace(planned("A", workspace=f"w{number}"), processor="ocrd-lost")
        for number in range(500)
    ]
    put(*lost)
    for _ in range(3):
        queueing.publish_ready()
    assert service.llen("ocrd-lost") < 100
    rows = [planned("A", workspace="x", pages=[f"P{number}"]) for number in range(100)]
    records.create(rows)
    service.config_resetstat()

    queueing.publish_ready()

    assert len(messages()) >= 16
    calls = service.info("commandstats")
    assert calls["cmdstat_lindex"]["calls"] < 100
    assert calls["cmdstat_zrange"]["calls"] == 1


def test_cancelled_jobs_of_a_processor_without_workers_leave_nothing(service: redis.Redis) -> None:
    lost = [
        dataclasses.replace(planned("A", pages=[f"P{number}"]), processor="ocrd-lost")
        for number in range(100)
    ]
    put(*lost)
    assert service.zcard(f"{redis_keys.OCRD}ready") == 1

    for row in lost[::-1]:
        lifecycle.backend().cancel(row.id)

    assert service.keys(f"{redis_keys.OCRD}ready*") == [f"{redis_keys.OCRD}ready:turn"]


def test_the_next_step_of_a_page_precedes_the_first_step_of_other_pages() -> None:
    first = [planned("A", pages=[f"P{number}"]) for number in range(100)]
    second = planned("B", pages=["P0"], after=first[:1])
    put(*first, second)
    waiting = len(messages())

    end(first[0])
    connection.client().rpop(DUMMY)
    queueing.publish_ready()

    assert second.id in messages()
    assert len(messages()) <= waiting + 1


def test_messages_of_cancelled_jobs_are_not_sent() -> None:
    rows = [planned("A", pages=[f"P{number}"]) for number in range(300)]
    put(*rows)
    for row in rows:
        lifecycle.backend().cancel(row.id)
    connection.client().delete(DUMMY)
    last = planned("B")

    put(last)

    assert messages() == [last.id]


def test_jobs_that_became_ready_when_messages_could_not_be_sent_are_sent_later() -> None:
    job = planned("A")
    records.create([job])
    assert messages() == []

    queueing.publish_ready()

    assert messages() == [job.id]


def test_each_end_of_a_job_is_sent_to_a_list_and_a_url() -> None:
    results = redis_keys.results("", "mine")
    told = {"result_queue": results, "message": 'job_id: "x"\n', "callback": True}
    one, two, three = (planned(name, **told) for name in "ABC")
    four = planned("D", after=[two], **told)
    put(one, two, three, four)

    end(one)
    end(two, State.FAILED)
    lifecycle.backend().cancel(three.id)

    rows = connection.client().lrange(results, 0, -1)
    words = ("SUCCESS", "FAILED", "CANCELLED", "CANCELLED")
    assert rows == [f'job_id: "x"\nstate: {word}\nstatus: {word}\n' for word in words]
    outbox = connection.client().zrange(keys.OUTBOX, 0, -1)
    assert set(outbox) == {
        f"{one.id} 1 succeeded",
        f"{two.id} 1 failed",
        f"{three.id} 1 cancelled",
        f"{four.id} 1 cancelled",
    }


def test_the_error_of_a_cancelled_dependent_is_its_class() -> None:
    first = planned("A")
    second = planned("B", after=[first])
    put(first, second)

    end(first, State.FAILED)

    assert isinstance(AsyncResult(second.id, app=app).result, ocrd_errors.DependencyFailed)


def test_jobs_of_a_workflow_are_counted_and_its_end_is_sent_once() -> None:
    workflow = layout.new_id()
    name = redis_keys.workflow_job(workflow)
    fields = {"job": "{}", "callback": "http://x", "left": 3, "keep": 100}
    connection.client().hset(name, mapping=fields)
    first = planned("A", workflow=workflow)
    second = planned("B", after=[first], workflow=workflow)
    third = planned("C", workflow=workflow)
    put(first, second, third)

    end(third)
    assert connection.client().zcard(keys.OUTBOX) == 0
    end(first, State.FAILED)

    assert connection.client().zrange(keys.OUTBOX, 0, -1) == [f"{workflow} 1 failed"]
    assert connection.client().lrange(redis_keys.workflow_failures(workflow), 0, -1) == [first.id]
    counts = connection.client().hgetall(name)
    found = {row: int(n) for row, n in counts.items() if " " in row and int(n)}
    assert found == {f"{DUMMY} {how}": 1 for how in ("succeeded", "failed", "cancelled")}
    assert 0 < connection.client().ttl(name) <= 100


def test_processor_jobs_are_not_listed_with_documents(service: redis.Redis) -> None:
    job = planned("A")
    put(job)

    assert lifecycle.list_jobs().jobs == []
    assert lifecycle.counts()[State.QUEUED] == 0
    with pytest.raises(errors.JobNotFound):
        lifecycle.read(job.id)
    assert service.zcard(redis_keys.processing_in("queued")) == 1
    assert service.smembers(redis_keys.open_jobs("w1")) == {job.id}
    end(job)
    assert not service.exists(redis_keys.open_jobs("w1"))


def test_cancelling_a_processor_job_cancels_those_that_depend_on_it() -> None:
    first = planned("B")
    second = planned("C", after=[first])
    run = dataclasses.asdict(Run("ocrd-dummy", ("A",), ("B",)))
    fixed = {"mets": "/mets.xml", "workspace_id": "", "pages": None, "owner": "", "workflow": ""}
    first = dataclasses.replace(first, job={"run": run, **fixed})
    put(first, second)

    ask("revoke", first.id)

    assert states(first, second) == ["cancelled", "cancelled"]
