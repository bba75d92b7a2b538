"""When a stage calls helpers, and what it does for them meanwhile, with a real Redis."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from ocr_tasks import settings
from ocr_tasks.jobs import page_queue
from ocr_tasks.plugin import parallel
from ocr_tasks.plugin.batch import Files
from ocr_tasks.plugin.parallel import Help, Work
from ocr_tasks.redis import keys
from tests.conftest import wait_until
from tests.ocr_tasks.plugin.test_progress import Clock

BATCH = "run:1"

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replaces the clock of `parallel`; time stands still unless a test advances it."""
    found = Clock()
    monkeypatch.setattr(parallel, "time", SimpleNamespace(monotonic=found))
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduces the polling interval to 10 ms."""
    for name in ("TICK", "_PAUSE"):
        monkeypatch.setattr(parallel, name, 0.01)


class Stage:
    """A stage of `count` items, processed by one thread; `do(item)` is called for each.

    `called` contains the number of helpers that each call requests. The result of an item is its
    number; it is negative if the processes of the item were lost.
    """

    def __init__(self, folder: Path, count: int, do: Callable[[int], None]) -> None:
        self.called: list[int] = []
        self.done: list[int] = []
        self.answered: list[int] = []
        self._files = Files(folder)
        self._count = count
        self._do = do

    def go(
        self,
        at_once: bool = True,
        after_each: Callable[[], None] = lambda: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        items = [(n,) for n in range(self._count)]
        done = Work(self._task, lambda item: -item, lambda: None, items, 1)
        # The task for helpers cannot be pickled, and no helper comes.
        files: Any = SimpleNamespace(write=lambda *_: None, pop_result=self._files.pop_result)
        help_ = Help(BATCH, files, self.called.append, at_once)
        for answer in done.results(tick, help_):
            self.answered.append(answer)
            after_each()

    def _task(self, item: int) -> int:
        self.done.append(item)
        self._do(item)
        return item


@pytest.mark.parametrize("count", [2, 5])
def test_helpers_are_called_for_all_items_but_one(count: int, tmp_path: Path) -> None:
    stage = Stage(tmp_path, count, lambda item: None)

    stage.go()

    assert stage.called == [count - 1]
    assert sorted(stage.answered) == list(range(count))


@pytest.mark.parametrize("count", [0, 1])
def test_no_helper_is_called_for_what_the_owner_does_itself(
    count: int, tmp_path: Path, service: redis.Redis
) -> None:
    stage = Stage(tmp_path, count, lambda item: None)

    stage.go()

    assert stage.called == []
    assert stage.answered == list(range(count))


def test_no_helper_is_called_for_less_than_a_second_of_work(tmp_path: Path, clock: Clock) -> None:
    """Twenty of thirty items take more than half a second, the remaining ten take less."""
    taken = threading.Semaphore(1)

    def do(item: int) -> None:
        assert taken.acquire(timeout=60)
        clock.now += 0.026

    stage = Stage(tmp_path, 30, do)
    stage.go(at_once=False, after_each=taken.release)

    assert stage.called == []
    assert stage.answered == list(range(30))


def test_helpers_are_called_once_for_a_slow_stage(tmp_path: Path, clock: Clock) -> None:
    reached = threading.Event()

    def do(item: int) -> None:
        if item == 1:
            clock.now += 1
            reached.set()
            wait_until(lambda: stage.called)

    stage = Stage(tmp_path, 8, do)
    stage.go(at_once=False)

    assert reached.is_set()
    assert stage.called == [5]


def test_a_batch_is_renewed_as_long_as_the_stage_lasts(
    tmp_path: Path, clock: Clock, service: redis.Redis
) -> None:
    """Redis would delete it after six times OCR_LEASE_SECONDS."""
    lasting = 6 * settings.get().lease_seconds
    names = keys.batch(BATCH)[:3]

    def do(item: int) -> None:
        if item == 0:
            wait_until(lambda: service.exists(*names[:2]) == 2)
            for name in names:
                service.expire(name, 100 * lasting)
            clock.now += settings.get().lease_seconds + 1
            wait_until(lambda: all(service.ttl(name) <= lasting for name in names))

    stage = Stage(tmp_path, 3, do)
    stage.go()

    assert stage.answered == [0, 1, 2]


@pytest.mark.usefixtures("quick")
def test_the_owner_does_what_a_helper_releases_when_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int | None] = []
    idle = threading.Event()
    lease = page_queue.acquire

    def noting(batch: str, holder: str, lasting: bool = False) -> int | None:
        item = lease(batch, holder, lasting)
        if item is None:
            idle.set()
        return item

    def do(item: int) -> None:
        if item == 0:
            held.append(lease(BATCH, "helper"))

    def tick() -> None:
        if idle.is_set() and held:
            page_queue.release(BATCH, held.pop() or 0, "helper")

    monkeypatch.setattr(page_queue, "acquire", noting)
    stage = Stage(tmp_path, 3, do)
    stage.go(tick=tick)

    assert stage.done == [0, 2, 1]


def test_an_item_whose_processes_were_lost_gets_a_result_without_being_tried(
    tmp_path: Path, service: redis.Redis
) -> None:
    def do(item: int) -> None:
        if item == 0:
            assert page_queue.acquire(BATCH, "helper") == 1
            service.rpush(keys.batch(BATCH)[-1], "1 lost")

    stage = Stage(tmp_path, 3, do)
    stage.go()

    assert stage.done == [0, 2]
    assert sorted(stage.answered) == [-1, 0, 2]


def test_no_item_is_done_twice_because_redis_lost_the_batch(
    tmp_path: Path, service: redis.Redis
) -> None:
    def do(item: int) -> None:
        if item == 0:
            service.delete(*keys.batch(BATCH))

    stage = Stage(tmp_path, 4, do)
    # No result is collected before the last item is done.
    stage.go(tick=lambda: wait_until(lambda: 3 in stage.done) and None)

    assert stage.done == [0, 1, 2, 3]
    assert stage.answered == [0, 1, 2, 3]


@pytest.mark.usefixtures("quick")
def test_the_caller_is_notified_of_time_that_passes_without_a_result(tmp_path: Path) -> None:
    ticks: list[int] = []
    stage = Stage(tmp_path, 1, lambda item: wait_until(lambda: len(ticks) > 3) and None)

    stage.go(tick=lambda: ticks.append(1))

    assert stage.answered == [0]


def test_waiting_for_a_result_ends_although_the_time_has_passed_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CPython 3.11 waits without end in about one of 10,000 attempts with such a timeout."""
    monkeypatch.setattr(parallel, "TICK", 1e-6)
    stage = Work(lambda: None, lambda: None, lambda: None, [()], 1)
    for _ in range(50_000):
        stage._results = queue.SimpleQueue()
        with pytest.raises(queue.Empty):
            stage._next_result()


def test_a_stage_ends_before_its_caller_handles_a_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal may be handled at any backward jump, where CPython 3.11 can skip a `finally`."""
    monkeypatch.setattr(parallel, "TICK", 1e-6)
    main = threading.get_ident()

    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(500):
            released, ticked = threading.Event(), threading.Event()

            def send(ticked: threading.Event = ticked) -> None:
                ticked.wait()
                signal.pthread_kill(main, signal.SIGUSR1)

            done = Work(lambda wait: wait(), lambda: None, lambda: None, [(released.wait,)], 1)
            monkeypatch.setattr(done, "_at_end", released.set)
            sender = threading.Thread(target=send)
            sender.start()
            with pytest.raises(TimeoutError):
                list(done.results(ticked.set, None))
            assert released.is_set()
            sender.join()
    finally:
        released.set()
        signal.signal(signal.SIGUSR1, before)
