"""Counts the hostile requests of these tests, and those whose response was not the listed one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stack, matching, wait_until


class Tally:
    """The number of hostile requests. Each test is one, and may add to that."""

    def __init__(self) -> None:
        self.tried = 0
        self.wrong: list[str] = []


_TALLY = Tally()


@pytest.fixture
def tally() -> Tally:
    return _TALLY


@pytest.fixture(autouse=True)
def hostile_request() -> None:
    _TALLY.tried += 1


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.nodeid.startswith("tests/hostile/"):
        _TALLY.wrong.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _TALLY.tried:
        return
    terminalreporter.section("hostile requests")
    words = f"{_TALLY.tried} tried, {len(_TALLY.wrong)} tests without the listed outcome"
    for line in (words, *_TALLY.wrong):
        terminalreporter.line(line)


@pytest.fixture
def nothing_is_left(stack: Stack) -> Iterator[None]:
    """Checks that a refused request leaves no file and no job."""
    files, jobs = _footprint(stack)
    yield

    def nothing_new() -> bool:
        now, submitted = _footprint(stack)
        # Files that an earlier test deleted may still disappear.
        return now <= files and submitted == jobs

    wait_until(nothing_new)


def _footprint(stack: Stack) -> tuple[set[Path], int]:
    files = {p for top in ("uploads", "jobs") for p in matching(stack.data_dir / top, "*/*")}
    with stack.client() as http:
        metrics = http.get("/metrics").text
    (submitted,) = [x for x in metrics.splitlines() if x.startswith("ocr_jobs_submitted_total")]
    return files, int(float(submitted.split()[-1]))
