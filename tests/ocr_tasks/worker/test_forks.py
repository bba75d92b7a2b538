"""A worker forks while its threads are running: no lock may stay locked in the child."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from ocr_tasks import options
from ocr_tasks.jobs import lifecycle, queues
from ocr_tasks.redis import connection
from ocr_tasks.storage import layout

pytestmark = pytest.mark.usefixtures("service")

INPUT = {"name": "scan.pdf", "pages": 7}
OPTIONS = options.from_dict({}).model_dump()


def children_that_hang(work: Callable[[], object], count: int = 10) -> int:
    """Returns how many of `count` children cannot do what threads do here all the time."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            work()

    threads = [threading.Thread(target=go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    hanging = 0
    try:
        for _ in range(count):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(30)
                work()
                os._exit(0)
            hanging += os.waitpid(child, 0)[1] != 0
            time.sleep(0.003)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return hanging


def test_a_child_can_send_messages() -> None:
    job_id = layout.new_id()

    assert children_that_hang(lambda: queues.publish(job_id, INPUT, OPTIONS, "normal")) == 0


def test_a_child_can_use_redis() -> None:
    connection.now()

    assert children_that_hang(connection.now) == 0
    assert not lifecycle.list_jobs(None, 1, None).jobs
