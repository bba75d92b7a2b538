"""Parallel processing of the items of one stage, by threads of this process and by helpers."""

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

#: Seconds without a result after which `Work.results` calls `tick`.
TICK = 0.25

#: A stage is slow if it has taken this many seconds and is expected to take as long again.
_SLOW = 0.5

#: Seconds between two attempts to reach Redis, or to lease an item that a helper may have lost.
_PAUSE = 1.0

#: The holder id with which the owner of a job leases items.
_OWNER = "owner"


@dataclass(frozen=True)
class Help:
    """How helpers take part in a stage.

    `batch` is the name of the batch whose items they lease, and `files` are its files. `call(n)`
    asks for up to `n` helpers. With `at_once`, they are called when the stage begins, otherwise
    only if it proves slow.
    """

    batch: str
    files: Files
    call: Callable[[int], None]
    at_once: bool


class Work:
    """The work of one call of OCRmyPDF's executor. Items are numbered from 0."""

    def __init__(
        self,
        task: Task,
        lost: Task,
        initializer: Initializer,
        arguments: Sequence[Any],
        threads: int,
        after: Callable[[Any], None] = lambda result: None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`task` returns the result of an item, called with its arguments.

        `lost` is called instead for an item that was given up because the processes that worked on
        it died. `initializer` is called once in each thread. `threads` is the number of threads.

        `after(result)` is called for each item of this process, and may raise an exception to end
        the work. `at_end()` is called at the end, and must stop items that are still waiting for
        something outside this process.
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
        self._unfinished = set(self._waiting)
        self._own: set[int] = set()
        self._results: queue.SimpleQueue[tuple[int, Any, BaseException | None]]
        self._results = queue.SimpleQueue()
        self._batch: str | None = None
        self._help_called = False
        self._collector: threading.Thread | None = None
        self._ended = threading.Event()

    def results(self, tick: Callable[[], None], help_: Help | None) -> Iterator[Any]:
        """Yields the result of each item as soon as it is finished.

        Calls `tick()` between results, and every `TICK` seconds while waiting. Raises what the task
        raises in this process.
        """
        # The loop is in a function of its own: if a signal arrives while a loop jumps back to the
        # first line of a `try`, CPython 3.11 looks up the exception handler one instruction too
        # early and does not find it.
        try:
            yield from self._as_completed(tick, help_)
        finally:
            self._end()

    def _as_completed(self, tick: Callable[[], None], help_: Help | None) -> Iterator[Any]:
        started = time.monotonic()
        if help_ and help_.at_once:
            self._call_help(help_)
        for thread in self._threads:
            thread.start()
        while self._unfinished:
            tick()
            if help_ and not self._help_called and self._is_slow(time.monotonic() - started):
                self._call_help(help_)
            try:
                item, result, error = self._next_result()
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item in self._unfinished:
                self._unfinished.discard(item)
                yield result

    def _next_result(self) -> tuple[int, Any, BaseException | None]:
        # In CPython 3.11, get() waits without end if the timeout has passed before it waits, e.g.
        # in a suspended process. This cannot happen after get_nowait() has found no result.
        try:
            return self._results.get_nowait()
        except queue.Empty:
            return self._results.get(timeout=TICK)

    def _is_slow(self, seconds: float) -> bool:
        done = len(self._arguments) - len(self._unfinished)
        remaining = seconds / max(1, done) * len(self._unfinished)
        return seconds > _SLOW and remaining > _SLOW

    def _end(self) -> None:
        self._ended.set()
        self._at_end()
        if self._batch:
            try:
                page_queue.close(self._batch)
            except RedisError as error:
                log.warning("batch %s cannot be closed and will expire: %s", self._batch, error)
        # A thread that is still running would process its item in the context of the next job.
        for thread in (*self._threads, self._collector):
            if thread and thread.ident:
                thread.join()

    # Threads of this process

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
                result = self._task(*self._arguments[item])
                self._results.put((item, result, None))
                self._after(result)
        except BaseException as error:  # raised again in the caller's thread
            self._results.put((item, None, error))

    def _next(self) -> int | None:
        """Returns an item for this process, or None if there is none at the moment."""
        with self._lock:
            if self._batch:
                try:
                    item = page_queue.acquire(self._batch, _OWNER, lasting=True)
                except RedisError as error:
                    log.warning("no item could be leased: %s", error)
                    return None
                except page_queue.NoBatch:
                    # Redis has lost the batch. Items that helpers are processing are redone here.
                    log.warning("batch %s is lost; continuing without helpers", self._batch)
                    self._waiting.extend(sorted(self._unfinished - self._own))
                    self._batch = None
                    return self._next_waiting()
                if item is not None:
                    self._own.add(item)
                return item
            return self._next_waiting()

    def _next_waiting(self) -> int | None:
        if not self._waiting:
            return None
        item = self._waiting.popleft()
        self._own.add(item)
        return item

    # Helpers

    def _call_help(self, help_: Help) -> None:
        """Offers the waiting items to helpers and calls them."""
        self._help_called = True
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
        """Collects the results of helpers until the work ends."""
        renewed = time.monotonic()
        while not self._ended.is_set():
            try:
                if time.monotonic() - renewed > settings.get().lease_seconds:
                    page_queue.renew_batch(batch)
                    renewed = time.monotonic()
                done = page_queue.collect(batch, seconds=_PAUSE)
            except RedisError as error:
                log.warning("results of helpers could not be collected: %s", error)
                self._ended.wait(_PAUSE)
                continue
            if done is None:
                continue
            try:
                if done.holder:
                    result = files.pop_result(done.item, done.holder)
                else:
                    result = self._lost(*self._arguments[done.item])
                self._results.put((done.item, result, None))
            except Exception as error:  # raised again in the caller's thread
                self._results.put((done.item, None, error))
