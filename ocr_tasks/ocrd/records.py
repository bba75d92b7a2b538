"""The records of processor jobs in Redis."""

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
    """A processor job to create. `job` is what never changes, ready for JSON; `pages` None: all.

    `results` is the list that its end is told on, `told` the beginning of the message, or ''.
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
    results: str
    told: str
    workflow: str


def create(planned: Iterable[PlannedRun]) -> list[int]:
    """Creates processor jobs.

    Returns a number for each: 1 created, -1 it exists, -2 a job that it depends on does not exist.
    """
    backend = lifecycle.backend()
    progress = Progress().to_dict()
    stages = json.dumps(progress)

    def row(new: PlannedRun) -> tuple[list[str], list[str | float]]:
        meta = backend.encode_meta(new.id, "QUEUED", progress)
        args = [new.id, meta, json.dumps(new.job), stages, repr(new.created)]
        args += [keys.owned_by(new.owner), new.processor, new.workspace]
        args += [json.dumps(new.outputs), "" if new.pages is None else json.dumps(new.pages)]
        args += ["end" if new.callback else "", new.results, new.told, new.workflow]
        return keys.job(new.id), [*args, redis_keys.PROCESSING, *new.depends_on]

    return [int(n) for n in connection.run_each("put_processing", map(row, planned))]
