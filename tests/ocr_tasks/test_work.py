"""When a stage calls helpers, and what it does for them meanwhile, on a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from ocr_tasks import keys, settings
from ocr_tasks.plugin import work
from ocr_tasks.plugin.batch import Files
from ocr_tasks.plugin.work import Help, Work
from tests.conftest import wait_until
from tests.ocr_tasks.test_progress import Clock

BATCH = "run:1"

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `work` looks at; it stands still unless a test turns it on."""
    found = Clock()
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=found))
    return found


class Stage:
    """A stage of so many items, done by one thread; `do(item)` is called for each.

    `called` has the number of helpers for which each call asks.
    """

    def __init__(self, folder: Path, count: int, do: Callable[[int], None]) -> None:
        self.called: list[int] = []
        self.answered: list[int] = []
        self._files = Files(folder)
        self._count = count
        self._do = do

    def go(self, at_once: bool = True, after_each: Callable[[], None] = lambda: None) -> None:
        done = Work(self._task, self._task, lambda: None, [(n,) for n in range(self._count)], 1)
        # What helpers would need cannot leave this process, and none of them comes.
        files: Any = SimpleNamespace(write=lambda *_: None, take_answer=self._files.take_answer)
        help_ = Help(BATCH, files, self.called.append, at_once)
        for answer in done.answers(lambda: None, help_):
            self.answered.append(answer)
            after_each()

    def _task(self, item: int) -> int:
        self._do(item)
        return item


def test_helpers_are_called_for_all_items_but_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 5, lambda item: None)

    stage.go()

    assert stage.called == [4]
    assert sorted(stage.answered) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_is_called_for_what_the_owner_does_itself(
    count: int, tmp_path: Path, service: redis.Redis
) -> None:
    stage = Stage(tmp_path, count, lambda item: None)

    stage.go()

    assert stage.called == []
    assert stage.answered == list(range(count))


def test_nobody_is_called_for_the_rest_of_a_second(tmp_path: Path, clock: Clock) -> None:
    """Twenty of thirty items take more than half a second, the ten to come will take less."""
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


def test_a_batch_is_kept_for_as_long_as_the_stage_takes(
    tmp_path: Path, clock: Clock, service: redis.Redis
) -> None:
    """Redis would forget it after six times OCR_LEASE_SECONDS."""
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
