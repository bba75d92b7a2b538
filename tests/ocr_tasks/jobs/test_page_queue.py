"""The page queue with a real Redis, and the work that is shared through it."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from ocr_tasks import settings
from ocr_tasks.jobs import celery_app, page_queue, queues
from ocr_tasks.jobs.celery_app import LAST_QUEUE_EVERY, QUEUES, QueueOrder
from ocr_tasks.plugin import helper
from ocr_tasks.plugin.batch import Files
from ocr_tasks.plugin.parallel import Help, Work
from ocr_tasks.redis import keys
from tests.conftest import wait_until

BATCH = "run:1"


@pytest.fixture(autouse=True)
def queue(service: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    monkeypatch.setenv("OCR_LEASE_SECONDS", "2")
    settings.clear()
    return service


def run_out(queue: redis.Redis, item: int) -> None:
    """Expires the lease of an item."""
    queue.zadd(keys.batch(BATCH)[2], {str(item): time.time() - 1}, xx=True)


def test_items_are_leased_in_order_each_to_one_process() -> None:
    page_queue.open_batch(BATCH, range(3))

    assert [page_queue.acquire(BATCH, f"holder {n}") for n in range(4)] == [0, 1, 2, None]


def test_a_completed_item_is_collected_with_its_process() -> None:
    page_queue.open_batch(BATCH, [4, 7])
    assert page_queue.acquire(BATCH, "a") == 4
    assert page_queue.complete(BATCH, 4, "a")

    assert page_queue.collect(BATCH, 1) == page_queue.Done(4, "a")
    assert page_queue.collect(BATCH, 0.1) is None


def test_an_item_whose_process_is_lost_is_leased_again(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "lost") == 0
    run_out(queue, 0)

    assert page_queue.acquire(BATCH, "next") == 0
    assert not page_queue.complete(BATCH, 0, "lost")
    assert page_queue.complete(BATCH, 0, "next")
    assert page_queue.collect(BATCH, 1) == page_queue.Done(0, "next")
    assert page_queue.collect(BATCH, 0.1) is None


def test_a_lease_expires_by_the_clock() -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "dead") == 0

    assert wait_until(lambda: page_queue.acquire(BATCH, "next") == 0)


def test_a_lease_can_be_renewed_repeatedly(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "alive") == 0

    def end() -> float:
        return queue.zscore(keys.batch(BATCH)[2], "0") or 0.0

    with page_queue.renewing(BATCH, 0, "alive"):
        for _ in range(2):
            before = end()
            wait_until(lambda before=before: end() > before)
    assert page_queue.complete(BATCH, 0, "alive")


def test_an_item_that_loses_two_processes_is_not_leased_again(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    for holder in ("first", "second"):
        assert page_queue.acquire(BATCH, holder) == 0
        run_out(queue, 0)

    assert page_queue.acquire(BATCH, "third") is None
    assert page_queue.collect(BATCH, 1) == page_queue.Done(0, None)


def test_a_released_item_is_leased_again_and_does_not_count_as_lost(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0, 1])
    for _ in range(5):
        assert page_queue.acquire(BATCH, "a") == 0
        assert page_queue.release(BATCH, 0, "a")
    assert page_queue.acquire(BATCH, "b") == 0
    assert not page_queue.release(BATCH, 0, "a")


def test_the_lease_of_an_owner_does_not_expire(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "owner", lasting=True) == 0

    assert queue.zscore(keys.batch(BATCH)[2], "0") == float("inf")


def test_a_closed_batch_leases_nothing_and_leaves_nothing(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "a") == 0
    page_queue.close(BATCH)

    with pytest.raises(page_queue.NoBatch):
        page_queue.acquire(BATCH, "a")
    assert not page_queue.complete(BATCH, 0, "a")
    assert queue.keys("*") == []


def test_all_keys_of_a_batch_expire_automatically(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0, 1, 2])
    page_queue.acquire(BATCH, "a")
    page_queue.acquire(BATCH, "a")
    page_queue.complete(BATCH, 0, "a")

    assert all(queue.ttl(key) > 0 for key in queue.keys("*"))


# Queues


def test_no_queue_starves() -> None:
    order = QueueOrder()
    order.update(reversed(QUEUES.values()))
    firsts = []
    for _ in range(2 * LAST_QUEUE_EVERY):
        firsts.append(order.consume(len(QUEUES))[0])
        order.rotate(firsts[-1])

    assert firsts.count(QUEUES["interactive"]) == 2 * (LAST_QUEUE_EVERY - 1)
    assert firsts.count(QUEUES["bulk"]) == 2


def test_queues_of_others_are_polled_too() -> None:
    order = QueueOrder()
    order.update({"reply", *QUEUES.values()})

    assert order.consume(5) == ["reply", *QUEUES.values()]


def test_documents_and_pages_of_workspaces_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_app, "EXTENSION_QUEUES", ["ocrd-made-up"])
    order = QueueOrder()
    order.update({"ocrd-made-up", *QUEUES.values()})
    assert order.consume(1) == [QUEUES["interactive"]]

    # While both have messages, and no other queue has.
    both = {QUEUES["normal"], "ocrd-made-up"}
    taken = []
    for _ in range(2 * LAST_QUEUE_EVERY):
        taken.append(next(lane for lane in order.consume(5) if lane in both))
        order.rotate(taken[-1])
    assert min(taken.count(lane) for lane in both) >= LAST_QUEUE_EVERY - 1
    assert order.consume(5)[-2:] == [QUEUES["pages"], QUEUES["bulk"]]


def test_processors_of_a_worker_alternate() -> None:
    order = QueueOrder()
    order.update(["ocrd-b", "ocrd-a"])
    firsts = []
    for _ in range(LAST_QUEUE_EVERY - 1):
        firsts.append(order.consume(2)[0])
        order.rotate(firsts[-1])
    assert firsts == ["ocrd-b", "ocrd-a", "ocrd-b", "ocrd-a"]


def test_small_documents_precede_pages_of_large_ones() -> None:
    order = QueueOrder()
    order.update(QUEUES.values())

    names = order.consume(4)
    assert (
        names.index(QUEUES["normal"]) < names.index(QUEUES["pages"]) < names.index(QUEUES["bulk"])
    )


# Shared work


def square(number: int, pause: float = 0.0) -> int:
    time.sleep(pause)
    if number < 0:
        raise ValueError(number)
    return number * number


def only_here(number: int) -> tuple[int, int]:
    return number, threading.get_native_id()


def nothing() -> None:
    pass


class Job:
    """The attributes of a job that `helper` uses."""

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.warnings: dict[str, None] = {}


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def work(self, run: str) -> Path:
        return self.path / run


def helped(
    tmp_path: Path, helpers: int, at_once: bool = True
) -> tuple[Help, list[threading.Thread]]:
    folder = Folder(tmp_path)
    threads: list[threading.Thread] = []

    def call(count: int) -> None:
        for _ in range(min(count, helpers)):
            target = partial(helper.help_with, Job(folder), BATCH, lambda: False)
            threads.append(threading.Thread(target=target))
            threads[-1].start()

    return Help(BATCH, helper.files(folder, BATCH), call, at_once), threads


def answers(work: Work, help_: Help | None) -> list[Any]:
    return sorted(work.results(lambda: None, help_))


def test_helpers_and_the_owner_share_the_work(tmp_path: Path, queue: redis.Redis) -> None:
    work = Work(partial(square, pause=0.02), nothing, nothing, [(n,) for n in range(30)], 1)
    help_, threads = helped(tmp_path, helpers=2)

    assert answers(work, help_) == [n * n for n in range(30)]
    for thread in threads:
        thread.join()
    assert queue.keys("ocr:batch:*") == []
    assert sorted(path.name for path in help_.files.folder.iterdir()) == [
        "index.json",
        "items",
        "task",
    ]


def test_without_helpers_the_owner_does_all_the_work(tmp_path: Path) -> None:
    work = Work(square, nothing, nothing, [(n,) for n in range(9)], 1)
    help_, _ = helped(tmp_path, helpers=0)

    assert answers(work, help_) == [n * n for n in range(9)]


def test_the_owner_retries_what_a_helper_cannot_do_and_reports_the_error(tmp_path: Path) -> None:
    work = Work(partial(square, pause=0.1), nothing, nothing, [(1,), (-2,), (3,)], 1)
    help_, threads = helped(tmp_path, helpers=1)

    with pytest.raises(ValueError, match="-2"):
        answers(work, help_)
    for thread in threads:
        thread.join()


def test_the_owner_continues_alone_when_redis_loses_the_batch(
    tmp_path: Path, queue: redis.Redis
) -> None:
    work = Work(partial(square, pause=0.05), nothing, nothing, [(n,) for n in range(12)], 1)
    help_, _ = helped(tmp_path, helpers=0)
    found = []
    for answer in work.results(lambda: None, help_):
        found.append(answer)
        if len(found) == 3:
            queue.flushall()

    assert sorted(found) == [n * n for n in range(12)]


def test_what_cannot_be_pickled_is_done_in_this_process(tmp_path: Path) -> None:
    lock = threading.Lock()

    def own(number: int) -> int:
        with lock:
            return number

    help_, threads = helped(tmp_path, helpers=1)

    assert answers(Work(own, nothing, nothing, [(n,) for n in range(5)], 1), help_) == [*range(5)]
    assert threads == []


def test_only_a_slow_stage_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    help_, threads = helped(tmp_path, helpers=1, at_once=False)
    quick = Work(square, nothing, nothing, [(n,) for n in range(50)], 1)
    with monkeypatch.context() as standing:
        standing.setattr("ocr_tasks.plugin.parallel.time", SimpleNamespace(monotonic=lambda: 0.0))
        assert answers(quick, help_) == [n * n for n in range(50)]
    assert threads == []

    slow = Work(partial(square, pause=0.2), nothing, nothing, [(n,) for n in range(12)], 1)
    assert answers(slow, help_) == [n * n for n in range(12)]
    assert len(threads) == 1


def test_threads_of_one_process_share_the_work() -> None:
    work = Work(only_here, nothing, nothing, [(n,) for n in range(200)], 4)

    found = answers(work, None)

    assert [number for number, _ in found] == list(range(200))
    assert threading.get_native_id() not in {thread for _, thread in found}


def test_a_helper_does_nothing_if_it_does_not_see_the_folder(tmp_path: Path) -> None:
    page_queue.open_batch(BATCH, range(3))
    job: Any = Job(Folder(tmp_path / "elsewhere"))

    assert helper.help_with(job, BATCH, lambda: False) is False
    assert page_queue.acquire(BATCH, "owner") == 0


def test_a_helper_does_one_item_and_then_yields(tmp_path: Path) -> None:
    files = Files(tmp_path / "run" / "batches" / "1")
    files.write(square, nothing, [(n,) for n in range(3)])
    page_queue.open_batch(BATCH, range(3))
    job: Any = Job(Folder(tmp_path))

    assert helper.help_with(job, BATCH, lambda: True) is True
    done = page_queue.collect(BATCH, 1)
    assert done is not None
    assert done.holder
    assert files.pop_result(done.item, done.holder) == 0
    assert helper.help_with(job, BATCH, lambda: False) is False
    assert page_queue.acquire(BATCH, "owner") is None


# Turns


def test_a_document_yields_to_one_that_no_worker_takes(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_TURN_SECONDS", "0")
    settings.clear()
    monkeypatch.setattr(queues, "_YIELD_INTERVAL", 3600)
    turn, other = queues.Turn("normal"), queues.Turn("normal")
    assert not turn.is_over(0)
    assert not turn.is_over(0), "nobody waits"

    queue.lpush(QUEUES["normal"], "a message")
    assert not turn.is_over(0), "it has not waited yet"
    queue.lpush(QUEUES["normal"], "a later one")
    assert turn.is_over(0)
    assert not any(other.is_over(0) for _ in range(3)), "one at a time"


@pytest.mark.parametrize(
    ("mine", "waiting", "over"),
    [
        ("normal", "interactive", True),
        ("normal", "bulk", False),
        ("normal", "pages", False),
        ("bulk", "bulk", True),
        ("bulk", "normal", True),
        ("interactive", "normal", False),
        ("interactive", "interactive", True),
        ("interactive", "ocrd-dummy", False),
        ("normal", "ocrd-dummy", True),
        ("bulk", "ocrd-dummy", True),
    ],
)
def test_a_document_yields_to_messages_of_at_least_its_priority(
    mine: str, waiting: str, over: bool, queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_TURN_SECONDS", "0")
    settings.clear()
    monkeypatch.setattr(queues, "EXTENSION_QUEUES", ["ocrd-dummy"])
    queue.lpush(QUEUES.get(waiting, waiting), "a message")
    turn = queues.Turn(mine)

    assert any(turn.is_over(0) for _ in range(3)) is over


def test_a_turn_lasts_longer_if_the_next_run_needs_time_to_resume(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_TURN_SECONDS", "0")
    settings.clear()
    queue.lpush(QUEUES["normal"], "a message")
    turn = queues.Turn("normal")

    assert not any(turn.is_over(back=60) for _ in range(3))
    assert any(turn.is_over(back=0) for _ in range(3))


def test_renewing_a_batch_extends_the_life_of_its_keys(queue: redis.Redis) -> None:
    page_queue.open_batch("b", range(3))
    for key in queue.keys("*"):
        queue.expire(key, 1)

    page_queue.renew_batch("b")

    assert all(queue.ttl(key) > 1 for key in queue.keys("*"))


def test_a_turn_lasts_its_seconds_if_the_next_run_needs_no_time_to_resume(
    queue: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_TURN_SECONDS", "3600")
    settings.clear()
    queue.lpush(QUEUES["normal"], "a message")
    turn = queues.Turn("normal")

    assert not any(turn.is_over(back=0) for _ in range(3))


def test_a_released_item_is_not_skipped_when_its_next_process_is_lost(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    for _ in range(3):
        assert page_queue.acquire(BATCH, "hands back") == 0
        assert page_queue.release(BATCH, 0, "hands back")
    assert page_queue.acquire(BATCH, "is lost") == 0
    run_out(queue, 0)

    assert page_queue.acquire(BATCH, "next") == 0


def test_a_completed_item_is_neither_completed_nor_leased_again(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "a") == 0
    assert page_queue.complete(BATCH, 0, "a")

    assert not page_queue.complete(BATCH, 0, "a")
    assert not page_queue.release(BATCH, 0, "a")
    run_out(queue, 0)
    assert page_queue.acquire(BATCH, "b") is None
    assert page_queue.collect(BATCH, 1) == page_queue.Done(0, "a")
    assert page_queue.collect(BATCH, 0.1) is None


def test_a_released_item_is_queued_once(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    assert page_queue.acquire(BATCH, "a") == 0
    assert page_queue.release(BATCH, 0, "a")
    run_out(queue, 0)

    assert not page_queue.release(BATCH, 0, "a")
    assert page_queue.acquire(BATCH, "b") == 0
    assert page_queue.acquire(BATCH, "c") is None


def test_the_result_of_a_process_that_lost_its_lease_is_ignored(queue: redis.Redis) -> None:
    page_queue.open_batch(BATCH, [0])
    for holder in ("first", "second"):
        assert page_queue.acquire(BATCH, holder) == 0
        run_out(queue, 0)
    assert page_queue.acquire(BATCH, "third") is None

    assert not page_queue.complete(BATCH, 0, "second")
    assert page_queue.collect(BATCH, 1) == page_queue.Done(0, None)
    assert page_queue.collect(BATCH, 0.1) is None


@pytest.mark.parametrize("step", ["leased", "handed back", "done"])
def test_no_key_outlives_its_batch_regardless_of_the_last_step(
    step: str, queue: redis.Redis
) -> None:
    page_queue.open_batch(BATCH, [0])
    page_queue.acquire(BATCH, "a", lasting=True)
    if step == "handed back":
        page_queue.release(BATCH, 0, "a")
    elif step == "done":
        page_queue.complete(BATCH, 0, "a")

    assert len(queue.keys("*")) == 2
    assert all(queue.ttl(key) > 0 for key in queue.keys("*"))
