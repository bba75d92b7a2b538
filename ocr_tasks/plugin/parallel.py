"""The items of one stage, done by threads of this process and, where asked, by helpers."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from ocr_tasks import settings
from ocr_tasks.jobs import page_queue
from ocr_tasks.plugin.batch import Files, Initializer, Task

log = logging.getLogger(__name__)

#: Seconds without an answer after which the caller of `Work.answers` is told so.
TICK = 0.25

#: Seconds of work in this process after which, with as much to come, a stage counts as slow.
_SLOW = 0.5

#: Seconds between two attempts to reach Redis, or to get an item that a lost helper holds.
_PAUSE = 1.0

#: The name under which the owner of a job leases items.
_OWNER = "owner"


@dataclass(frozen=True)
class Help:
    """How other workers take part: the batch they lease items of, where its files go, whom to call.

    `at_once`: from the beginning, not only when the stage proves slow.
    """

    batch: str
    files: Files
    call: Callable[[int], None]
    at_once: bool


class Work:
    """What one call of OCRmyPDF's executor has to do. Items are numbered from 0."""

    def __init__(
        self,
        task: Task,
        lost: Task,
        initializer: Initializer,
        arguments: Sequence[Any],
        threads: int,
        after: Callable[[Any], None] = lambda answer: None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`lost` answers in the place of `task` for an item whose readers got lost.

        `after(answer)` is called for each item of this process; it may raise to end the work.
        `at_end()` lets items go that are waited for and not wanted any more.
        """
        self._after = after
        self._at_end = at_end
        self._task = task
        self._lost = lost
        self._initializer = initializer
        self._arguments = arguments
        self._threads = [
            threading.Thread(target=self._work, name=f"work-{number}", daemon=True)
            for number in range(min(threads, len(arguments)))
        ]
        self._lock = threading.Lock()
        self._waiting = deque(range(len(arguments)))
        self._unanswered = set(self._waiting)
        self._mine: set[int] = set()
        self._answers: queue.SimpleQueue[tuple[int, Any, BaseException | None]]
        self._answers = queue.SimpleQueue()
        self._batch: str | None = None
        self._asked = False
        self._collector: threading.Thread | None = None
        self._ended = threading.Event()

    def answers(self, tick: Callable[[], None], help_: Help | None) -> Iterator[Any]:
        """The answer to each item as soon as it is there, in the caller's thread.

        `tick()` is called between answers and when none comes for a while.

        Raises:
            what the task raises in this process.
        """
        # In a frame of its own: where a signal is handled as a loop jumps back to the first line of
        # a `try`, CPython 3.11 looks for the handler one instruction too early, and skips it.
        try:
            yield from self._answers_as_they_come(tick, help_)
        finally:
            self._end()

    def _answers_as_they_come(self, tick: Callable[[], None], help_: Help | None) -> Iterator[Any]:
        started = time.monotonic()
        if help_ and help_.at_once:
            self._call_help(help_)
        for thread in self._threads:
            thread.start()
        while self._unanswered:
            tick()
            if help_ and not self._asked and self._is_slow(time.monotonic() - started):
                self._call_help(help_)
            try:
                item, answer, error = self._answers.get(timeout=TICK)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item in self._unanswered:
                self._unanswered.discard(item)
                yield answer

    def _is_slow(self, seconds: float) -> bool:
        done = len(self._arguments) - len(self._unanswered)
        left = seconds / max(1, done) * len(self._unanswered)
        return seconds > _SLOW and left > _SLOW

    def _end(self) -> None:
        self._ended.set()
        self._at_end()
        if self._batch:
            try:
                page_queue.close(self._batch)
            except RedisError as error:
                log.warning("the batch %s is left to run out: %s", self._batch, error)
        # What is at work would do its item in the name of the next job.
        for thread in (*self._threads, self._collector):
            if thread and thread.ident:
                thread.join()

    # The threads of this process

    def _work(self) -> None:
        item = -1
        try:
            self._initializer()
            while not self._ended.is_set():
                next_item = self._next()
                if next_item is None:
                    if self._batch is None:
                        return
                    self._ended.wait(_PAUSE)
                    continue
                item = next_item
                answer = self._task(*self._arguments[item])
                self._answers.put((item, answer, None))
                self._after(answer)
        except BaseException as error:  # raised again in the caller's thread
            self._answers.put((item, None, error))

    def _next(self) -> int | None:
        """An item for this process; None: there is none at the moment."""
        with self._lock:
            if self._batch:
                try:
                    item = page_queue.lease(self._batch, _OWNER, lasting=True)
                except RedisError as error:
                    log.warning("no item could be leased: %s", error)
                    return None
                except page_queue.NoBatch:
                    # Redis has lost it. What helpers are at now is done here too.
                    log.warning("the batch %s is gone; going on alone", self._batch)
                    self._waiting.extend(sorted(self._unanswered - self._mine))
                    self._batch = None
                    return self._next_waiting()
                if item is not None:
                    self._mine.add(item)
                return item
            return self._next_waiting()

    def _next_waiting(self) -> int | None:
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        self._mine.add(item)
        return item

    # The helpers

    def _call_help(self, help_: Help) -> None:
        """Lets other workers take part in what still waits."""
        self._asked = True
        with self._lock:
            count = len(self._waiting)
            if count < 2:
                return
            try:
                help_.files.write(self._task, self._initializer, self._arguments)
                page_queue.open_batch(help_.batch, self._waiting)
                help_.call(count - 1)
            except (RedisError, pickle.PicklingError, TypeError, AttributeError) as error:
                log.warning("no helpers could be called: %s", error)
                return
            self._waiting.clear()
            self._batch = help_.batch
        self._collector = threading.Thread(
            target=self._collect, args=(help_.batch, help_.files), name="collect", daemon=True
        )
        self._collector.start()

    def _collect(self, batch: str, files: Files) -> None:
        """Takes over what helpers have done."""
        kept = time.monotonic()
        while not self._ended.is_set():
            try:
                if time.monotonic() - kept > settings.get().lease_seconds:
                    page_queue.keep(batch)
                    kept = time.monotonic()
                done = page_queue.collect(batch, seconds=_PAUSE)
            except RedisError as error:
                log.warning("nothing could be collected: %s", error)
                self._ended.wait(_PAUSE)
                continue
            if done is None:
                continue
            try:
                if done.reader:
                    answer = files.take_answer(done.item, done.reader)
                else:
                    answer = self._lost(*self._arguments[done.item])
                self._answers.put((done.item, answer, None))
            except Exception as error:  # raised again in the caller's thread
                self._answers.put((done.item, None, error))
