"""Checks of the response to a hostile request, and of what it leaves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests import documents
from tests.conftest import Stack, submit, wait_for_end, wait_until


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks a problem document: status, code, advice, no leaks. Returns it."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["advice"]
    for leak in ("Traceback", "/ocr_tasks/", "upload-0", "site-packages"):
        assert leak not in answer.text
    return problem


def code(job: dict[str, Any]) -> str:
    """Returns the error code of a job, or its state."""
    return str(job["error"]["code"] if job["error"] else job["state"])


def folder_of(stack: Stack, job: dict[str, Any]) -> Path:
    return stack.data_dir / "jobs" / job["id"][:2] / job["id"]


def descendants(stack: Stack) -> list[psutil.Process]:
    """Returns all processes of a stack."""
    assert stack.process is not None
    return psutil.Process(stack.process.pid).children(recursive=True)


def readers(stack: Stack) -> set[int]:
    """Returns the IDs of the worker's child processes."""
    workers = [row for row in descendants(stack) if _is_worker(row)]
    (main,) = [row for row in workers if row.ppid() not in {other.pid for other in workers}]
    return {row.pid for row in workers} - {main.pid}


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[-1:] == ["worker"]
    return False


def programs(stack: Stack) -> list[str]:
    """Returns the names of the programs that run for jobs of a stack."""
    found = []
    for process in descendants(stack):
        with contextlib.suppress(psutil.Error):
            name = process.name()
            if not name.startswith(("python", "redis-server", "gunicorn")):
                found.append(name)
    return found


def assert_nothing_is_left(stack: Stack, http: httpx.Client, job: dict[str, Any]) -> None:
    """Checks that no program and no temporary file is left, and that the next job succeeds."""
    work = folder_of(stack, job) / "work"
    wait_until(lambda: not programs(stack) and not work.exists())
    following = wait_for_end(http, submit(http, ("next.pdf", documents.scan("next"))).json())
    assert (following["state"], following["failed_pages"]) == ("succeeded", [])
