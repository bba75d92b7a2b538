"""Tells the end of jobs of processors: to an address, or on a list in Redis.

The message is the result message of OCR-D's specification, which calls the state `status`, and of
its core, which calls it `state`: it has both.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

from ocr_tasks import errors
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.ocrd.model import ProcessorJob, WorkflowJob, Workspace
from ocr_tasks.redis import connection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


def check_name(name: str) -> None:
    """Makes sure that a list of results may have this name."""
    if not _NAME.fullmatch(name):
        raise errors.ProcessingInvalid(
            "result_queue_name: use at most 100 letters, digits, dots, hyphens and underscores"
        )


def beginning(job_id: str, workspace: Workspace) -> str:
    """The message on a list but for its state, as YAML."""
    rows = {"job_id": job_id, "path_to_mets": str(workspace.mets), "workspace_id": workspace.id}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in rows.items())


def of_job(job: ProcessorJob) -> dict[str, str]:
    """The message to an address, of a job that has ended."""
    return {
        "job_id": job.id,
        "state": job.state,
        "status": job.state,
        "path_to_mets": str(job.path_to_mets),
        "workspace_id": job.workspace_id,
    }


def of_workflow(job: WorkflowJob, event: str) -> dict[str, str]:
    """The message to an address, of a run of a workflow that has `succeeded` or `failed`."""
    state = "SUCCESS" if event == "succeeded" else "FAILED"
    return {
        "job_id": job.id,
        "state": state,
        "status": state,
        "path_to_mets": str(job.path_to_mets),
        "workspace_id": job.workspace_id,
    }


def results(name: str, owner: str, seconds: float) -> Iterator[dict[str, str]]:
    """Takes messages from a list, the oldest first; waits for one for so many seconds."""
    check_name(name)
    key = redis_keys.results(owner, name)
    deadline = time.monotonic() + seconds
    with connection.translated_errors():
        while True:
            message = connection.client().lpop(key)
            if message is not None:
                yield _parsed(str(message))
                deadline = 0.0  # what is there already, and no more
            elif (left := deadline - time.monotonic()) > 0:
                # Shorter than the client waits for an answer of Redis.
                found = connection.client().blpop([key], timeout=min(left, 2.0))
                if found:
                    yield _parsed(str(found[1]))
                    deadline = 0.0
            else:
                return


def _parsed(message: str) -> dict[str, str]:
    """A message of ours, whose YAML is a line for each field."""
    rows = (line.partition(": ") for line in message.splitlines())
    return {name: json.loads(value) if value[:1] == '"' else value for name, _, value in rows}
