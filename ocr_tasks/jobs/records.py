"""The record of a job in Redis, as a `Job`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ocr_tasks import settings
from ocr_tasks.model import Callback, Failure, Job, JobInput, Outcome, Progress, State


def job(job_id: str, record: dict[str, str], rank: int | None) -> Job:
    """A job by its record (`keys`) and its place in the queue, from 0."""
    meta = json.loads(record["meta"])
    fixed = json.loads(record["job"])
    state = State(record["state"])
    progress = Progress.from_dict(json.loads(record["progress"]))
    result = meta["result"]
    ended_at = datetime.fromisoformat(meta["date_done"]).timestamp() if state.final else None
    return Job(
        id=job_id,
        state=state,
        revision=int(record["revision"]),
        attempt=int(record["attempt"]),
        owner=fixed["owner"],
        callback=_callback(fixed.get("callback"), record),
        created_at=float(record["created"]),
        input=JobInput.from_dict(fixed["input"]),
        options=fixed["options"],
        progress=progress,
        started_at=progress.started_at,
        ended_at=ended_at,
        queue_position=rank + 1 if state is State.QUEUED and rank is not None else None,
        outcome=Outcome.from_dict(result) if state is State.SUCCEEDED else None,
        expires_at=_expires_at(ended_at),
        failure=_failure(result) if state in (State.FAILED, State.CANCELLED) else None,
    )


def _callback(chosen: dict[str, str] | None, record: dict[str, str]) -> Callback | None:
    if chosen is None:
        return None
    return Callback(**chosen, deliveries=tuple(json.loads(record["deliveries"])))


def _expires_at(ended_at: float | None) -> float | None:
    config = settings.get()
    limits = [keep for keep in (config.keep_results_seconds, config.keep_jobs_seconds) if keep]
    return ended_at + min(limits) if ended_at and limits else None


def _failure(result: dict[str, Any]) -> Failure:
    return Failure(result["code"], result["exc_message"][0], result["retryable"], result["page"])
