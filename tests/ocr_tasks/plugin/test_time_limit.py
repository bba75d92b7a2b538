"""Interrupts loops in Python, and nothing after the block."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress

import pytest

from ocr_tasks.plugin import time_limit


def spin() -> None:
    for _ in itertools.count():
        with suppress(Exception):
            next(iter(range(10)))


def test_an_endless_loop_is_interrupted() -> None:
    with pytest.raises(time_limit.TimeLimitReached), time_limit.limited(0.05):
        spin()


def test_it_is_interrupted_in_its_own_thread() -> None:
    ended: list[str] = []

    def work() -> None:
        try:
            with time_limit.limited(0.05):
                spin()
        except time_limit.TimeLimitReached:
            ended.append("interrupted")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert ended == ["interrupted"] * 3


def test_nothing_is_raised_after_the_block() -> None:
    for _ in range(300):
        with suppress(time_limit.TimeLimitReached), time_limit.limited(0.0001):
            sum(range(1000))
        sum(range(2000))  # would be interrupted here


def test_a_block_in_time_returns() -> None:
    with time_limit.limited(60):
        found = sum(range(10))
    assert found == 45
