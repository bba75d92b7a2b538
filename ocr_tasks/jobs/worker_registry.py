"""The registry of live workers: their languages, processes and processors.

A worker announces itself every five seconds. Its entry expires LIFETIME seconds after the last
announcement.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import cast

from ocr_tasks import settings
from ocr_tasks.model import WorkerInfo
from ocr_tasks.redis import connection, keys

#: Seconds after the last announcement for which a worker counts as alive.
LIFETIME = 15


def announce(worker: WorkerInfo) -> None:
    """Registers a worker for LIFETIME seconds."""
    with connection.client().pipeline() as pipe:
        pipe.set(keys.WORKER_PREFIX + worker.name, json.dumps(asdict(worker)), ex=LIFETIME)
        pipe.sadd(keys.WORKERS, worker.name)
        if worker.languages:
            pipe.delete(keys.LANGUAGES)
            pipe.sadd(keys.LANGUAGES, *worker.languages)
        pipe.execute()


def touch_alive_file() -> None:
    """Touches OCR_ALIVE_FILE if it is set. Called every few seconds while the process works."""
    path = settings.get().alive_file
    if path:
        path.touch()


def unregister(name: str) -> None:
    """Removes a worker that ends."""
    connection.client().delete(keys.WORKER_PREFIX + name)


def running_workers() -> list[WorkerInfo]:
    """Returns the live workers, sorted by name."""
    with connection.translated_errors():
        client = connection.client()
        names = sorted(cast("set[str]", client.smembers(keys.WORKERS)))
        values = client.mget([keys.WORKER_PREFIX + name for name in names]) if names else []
        records = dict(zip(names, cast("list[str | None]", values), strict=True))
        if gone := [name for name, record in records.items() if not record]:
            client.srem(keys.WORKERS, *gone)
    return [WorkerInfo(**json.loads(record)) for record in records.values() if record]


def document_workers() -> list[WorkerInfo]:
    """Returns the live workers that process documents."""
    return [worker for worker in running_workers() if worker.takes_documents]


def languages() -> list[str]:
    """Returns the languages that all live workers have, or those last announced if none is live."""
    workers = document_workers()
    if workers:
        return sorted(set.intersection(*(set(worker.languages) for worker in workers)))
    with connection.translated_errors():
        return sorted(str(code) for code in connection.client().smembers(keys.LANGUAGES))
