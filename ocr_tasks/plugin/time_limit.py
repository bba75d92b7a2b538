"""Time limits for code of libraries that has none."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TimeLimitReached(BaseException):
    """The block took too long. Not an Exception, because libraries catch those of their own."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeLimitReached in the block after this time.

    Only Python code is interrupted; a call of a library in C is completed first.
    """
    thread = ctypes.c_ulong(threading.get_ident())

    def interrupt() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeLimitReached))

    try:
        with watched(seconds, interrupt):
            yield
    finally:
        # If the exception was set just before, it must not be raised after the block.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)


@contextmanager
def watched(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` in another thread if the block takes longer, but not after the block."""
    lock = threading.Lock()
    is_over = False

    def act_in_block() -> None:
        with lock:
            if not is_over:
                act()

    timer = threading.Timer(seconds, act_in_block)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            is_over = True
