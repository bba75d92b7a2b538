"""Sends the messages of processor jobs to the queues of their processors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

from ocr_tasks.jobs import queues, worker_registry
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.redis import connection, keys

RUN_PROCESSOR = "ocr_tasks.tasks.run_processor"

#: Maximum number of messages sent at a time.
_MOST_READY = 64


def publish(processors: Mapping[str, str]) -> None:
    """Sends the messages of jobs to the queues of their processors; `processors` is by job id."""
    queues.publish_all(RUN_PROCESSOR, processors)


def publish_ready() -> None:
    """Sends messages of jobs that no longer wait for another job.

    Sends only as many as keep all processes busy, because a job in a queue cannot be overtaken.
    """
    names = [redis_keys.OCRD, keys.AWAITED, keys.TASK_PREFIX]
    rows = connection.run("take_ready", names, [_long_enough(), _MOST_READY])
    if rows:
        publish(dict(zip(rows[::2], rows[1::2], strict=True)))


def _long_enough() -> int:
    """Returns the queue length that keeps all processes busy until the next call."""
    return 16 + 2 * _processes(int(time.monotonic() / worker_registry.LIFETIME))


@lru_cache(maxsize=1)
def _processes(now: int) -> int:
    return sum(
        worker.processes for worker in worker_registry.running_workers() if worker.processors
    )
