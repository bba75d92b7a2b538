"""Result messages of processor jobs: sent to a callback URL, or appended to a list in Redis.

The message contains the state twice: as `status`, its name in OCR-D's specification, and as
`state`, its name in OCR-D's core.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

from redis.exceptions import OutOfMemoryError

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.ocrd.model import ProcessorJob, WorkflowJob, Workspace
from ocr_tasks.redis import connection
from ocr_tasks.storage import layout

#: Maximum number of messages in a response, and seconds for which they are leased.
MOST, LEASE_SECONDS = 100, 60

#: Seconds for which a queue is kept after its last change.
_KEPT = 7 * 24 * 3600

#: Seconds between checks whether a lease has expired or the client has left.
_POLL_SECONDS = 1.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def check_name(name: str) -> None:
    """Raises ocrd_errors.ProcessingInvalid unless a result queue may have this name."""
    if not _NAME.fullmatch(name):
        raise ocrd_errors.ProcessingInvalid(
            "result_queue_name: use at most 100 letters, digits, dots, hyphens and underscores"
        )


def prefix(job_id: str, workspace: Workspace) -> str:
    """Returns the message for a result queue without the final state, as YAML."""
    rows = {"job_id": job_id, "path_to_mets": str(workspace.mets), "workspace_id": workspace.id}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in rows.items())


def of_job(job: ProcessorJob) -> dict[str, str]:
    """Returns the message to the callback URL of a job that has ended."""
    return {
        "job_id": job.id,
        "state": job.state,
        "status": job.state,
        "path_to_mets": str(job.path_to_mets),
        "workspace_id": job.workspace_id,
    }


def of_workflow(job: WorkflowJob, event: str) -> dict[str, str]:
    """Returns the message to the callback URL of a workflow run.

    `event` is `succeeded` or `failed`.
    """
    state = "SUCCESS" if event == "succeeded" else "FAILED"
    return {
        "job_id": job.id,
        "state": state,
        "status": state,
        "path_to_mets": str(job.path_to_mets),
        "workspace_id": job.workspace_id,
    }


def lease(
    name: str, owner: str, seconds: float, has_left: Callable[[], bool] = lambda: False
) -> list[dict[str, str]]:
    """Returns the oldest messages of a result queue, at most MOST, each with a `receipt`.

    If they are not acknowledged within LEASE_SECONDS, they are returned again. If the queue is
    empty, waits up to `seconds` for a message, or until `has_left` returns True.
    """
    check_name(name)
    key = redis_keys.results(owner, name)
    deadline = time.monotonic() + seconds
    receipt = layout.new_id()
    with connection.translated_errors():
        while not has_left():
            found = connection.run("lease_results", [key], [receipt, LEASE_SECONDS, MOST, _KEPT])
            left = deadline - time.monotonic()
            if found or left <= 0:
                return [_parsed(message) | {"receipt": receipt} for message in found]
            # Waits until the list is not empty, and leaves it unchanged.
            pause = min(left, _POLL_SECONDS)
            try:
                connection.client().blmove(key, key, pause, "LEFT", "LEFT")  # type: ignore[arg-type]  # floats are fine
            except OutOfMemoryError:  # a full Redis rejects the command, even on an empty queue
                time.sleep(pause)
    return []


def acknowledge(name: str, owner: str, receipt: str) -> int:
    """Deletes the messages with a receipt, and returns their number.

    That is 0 if they were returned to the queue after their lease had expired.
    """
    check_name(name)
    if not layout.is_id(receipt):
        return 0
    key = redis_keys.results(owner, name)
    with connection.translated_errors():
        return int(connection.run("acknowledge_results", [key], [receipt]))


def _parsed(message: str) -> dict[str, str]:
    """Returns the fields of a message; its YAML has one line per field."""
    rows = (line.partition(": ") for line in message.splitlines())
    return {name: json.loads(value) if value[:1] == '"' else value for name, _, value in rows}
