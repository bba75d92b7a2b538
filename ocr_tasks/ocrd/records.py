"""Creates the records of processor jobs in Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Progress
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.redis import connection, keys


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A processor job to create.

    `job` contains what never changes, and is written as JSON. `pages` are page ids, or None for all
    pages. When the job ends, `message` and the final state are appended to the Redis list
    `result_queue`, unless that is ''.
    """

    id: str
    job: dict[str, Any]
    owner: str
    created: float
    processor: str
    workspace: str
    outputs: Sequence[str]
    pages: Sequence[str] | None
    depends_on: Sequence[str]
    callback: bool
    result_queue: str
    message: str
    workflow: str


def create(planned: Iterable[PlannedRun]) -> list[int]:
    """Creates processor jobs.

    Returns a number for each: 1 created, -1 the job exists, -2 a job that it depends on does not
    exist.
    """
    backend = lifecycle.backend()
    progress = Progress().to_dict()
    stages = json.dumps(progress)

    def row(new: PlannedRun) -> tuple[list[str], list[str | float]]:
        meta = backend.encode_meta(new.id, "QUEUED", progress)
        args = [new.id, meta, json.dumps(new.job), stages, repr(new.created)]
        args += [keys.owned_by(new.owner), new.processor, new.workspace]
        args += [json.dumps(new.outputs), "" if new.pages is None else json.dumps(new.pages)]
        args += ["end" if new.callback else "", new.result_queue, new.message, new.workflow]
        return keys.job(new.id), [*args, redis_keys.PROCESSING, *new.depends_on]

    return [int(n) for n in connection.run_each("put_processing", map(row, planned))]
