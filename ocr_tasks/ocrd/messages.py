"""Result messages of processor jobs: sent to a callback URL, or appended to a list in Redis.

The message contains the state twice: as `status`, its name in OCR-D's specification, and as
`state`, its name in OCR-D's core.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.ocrd.model import ProcessorJob, WorkflowJob, Workspace
from ocr_tasks.redis import connection

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


def results(name: str, owner: str, seconds: float) -> Iterator[dict[str, str]]:
    """Removes and yields the messages of a result queue, oldest first.

    If the queue is empty, waits up to `seconds` for a message.
    """
    check_name(name)
    key = redis_keys.results(owner, name)
    deadline = time.monotonic() + seconds
    with connection.translated_errors():
        while True:
            message = connection.client().lpop(key)
            if message is not None:
                yield _parsed(str(message))
                deadline = 0.0  # do not wait for more
            elif (left := deadline - time.monotonic()) > 0:
                # Shorter than the socket timeout of the Redis client.
                found = connection.client().blpop([key], timeout=min(left, 2.0))
                if found:
                    yield _parsed(str(found[1]))
                    deadline = 0.0
            else:
                return


def _parsed(message: str) -> dict[str, str]:
    """Returns the fields of a message; its YAML has one line per field."""
    rows = (line.partition(": ") for line in message.splitlines())
    return {name: json.loads(value) if value[:1] == '"' else value for name, _, value in rows}
