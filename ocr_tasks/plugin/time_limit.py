"""A time limit for code of libraries that loops in Python."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimitReached(BaseException):
    """The block took too long. Not an Exception, because libraries catch those of their own."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeLimitReached in the block after this time.

    Only Python code is interrupted; a call of a library in C is completed first.
    """
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    is_over = False

    def interrupt() -> None:
        with lock:
            if not is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    thread, ctypes.py_object(TimeLimitReached)
                )

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            is_over = True
        # If the exception was set just before, it must not be raised after the block.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
