"""Counts the hostile requests of these tests, and those that did not get the listed answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import documents
from tests.conftest import Stack, submit, wait_for_end, wait_until


class Tally:
    """How many hostile requests were tried, and which had another outcome than the listed one."""

    def __init__(self) -> None:
        self.tried = 0
        self.wrong: list[str] = []

    @contextlib.contextmanager
    def request(self, what: str) -> Iterator[None]:
        """A request whose outcome the block checks."""
        self.tried += 1
        try:
            yield
        except BaseException:
            self.wrong.append(what)
            raise


_TALLY = Tally()


@pytest.fixture
def tally() -> Tally:
    return _TALLY


@pytest.fixture(autouse=True)
def hostile_request(request: pytest.FixtureRequest) -> None:
    """Each of these tests is at least one hostile request."""
    _TALLY.tried += 1


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and "tests/hostile" in report.nodeid:
        _TALLY.wrong.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _TALLY.tried:
        terminalreporter.section("hostile requests")
        terminalreporter.line(
            f"{_TALLY.tried} tried, {len(_TALLY.wrong)} without the listed outcome"
        )
        for what in _TALLY.wrong:
            terminalreporter.line(what)


# What a hostile job must not leave behind


def folder_of(stack: Stack, job: dict[str, Any]) -> Path:
    return stack.data_dir / "jobs" / job["id"][:2] / job["id"]


def descendants(stack: Stack) -> list[psutil.Process]:
    """All processes of a stack."""
    assert stack.process is not None
    return psutil.Process(stack.process.pid).children(recursive=True)


def readers(stack: Stack) -> set[int]:
    """The processes of the worker that read."""
    (worker,) = [row for row in descendants(stack) if _is_worker(row) and _is_worker_main(row)]
    return {child.pid for child in worker.children() if _is_worker(child)}


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()[-1:] == ["worker"]
    return False


def _is_worker_main(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and not _is_worker(parent)


def programs(stack: Stack) -> list[str]:
    """The names of the programs that run for jobs of a stack."""
    found = []
    for process in descendants(stack):
        with contextlib.suppress(psutil.Error):
            if process.name() not in ("python", "python3", "redis-server", "gunicorn"):
                found.append(process.name())
    return found


def assert_nothing_is_left(stack: Stack, http: httpx.Client, job: dict[str, Any]) -> None:
    """No program, no temporary file; and the next job is read."""
    work = folder_of(stack, job) / "work"
    wait_until(lambda: not programs(stack) and not work.exists(), 20)
    following = wait_for_end(http, submit(http, ("next.pdf", documents.scan("next"))).json())
    assert (following["state"], following["failed_pages"]) == ("succeeded", [])
