"""Which workers live, and what they can read.

A worker says so every few seconds; one that stops saying so is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import cast

from ocr_tasks import settings
from ocr_tasks.model import WorkerInfo
from ocr_tasks.redis import connection, keys

#: Seconds after which a worker that said nothing counts as gone.
LIFETIME = 15


def announce(worker: WorkerInfo) -> None:
    """Says that a worker lives and what it can read."""
    with connection.client().pipeline() as pipe:
        pipe.set(keys.WORKER_PREFIX + worker.name, json.dumps(asdict(worker)), ex=LIFETIME)
        pipe.sadd(keys.WORKERS, worker.name)
        if worker.languages:
            pipe.delete(keys.LANGUAGES)
            pipe.sadd(keys.LANGUAGES, *worker.languages)
        pipe.execute()


def show_alive() -> None:
    """Touches OCR_ALIVE_FILE, where that is set: to be called while this process does its work."""
    path = settings.get().alive_file
    if path:
        path.touch()


def leave(name: str) -> None:
    """Says that a worker has gone."""
    connection.client().delete(keys.WORKER_PREFIX + name)


def living() -> list[WorkerInfo]:
    """The workers that live."""
    with connection.errors_as_ours():
        client = connection.client()
        names = sorted(cast("set[str]", client.smembers(keys.WORKERS)))
        found = client.mget([keys.WORKER_PREFIX + name for name in names]) if names else []
        records = dict(zip(names, cast("list[str | None]", found), strict=True))
        if gone := [name for name, record in records.items() if not record]:
            client.srem(keys.WORKERS, *gone)
    return [WorkerInfo(**json.loads(record)) for record in records.values() if record]


def readers() -> list[WorkerInfo]:
    """The workers that live and read documents."""
    return [worker for worker in living() if worker.takes_documents]


def languages() -> list[str]:
    """Languages that every living worker has; those last seen where none lives."""
    workers = readers()
    if workers:
        return sorted(set.intersection(*(set(worker.languages) for worker in workers)))
    with connection.errors_as_ours():
        return sorted(str(code) for code in connection.client().smembers(keys.LANGUAGES))
