"""Several worker processes and one document; pages that hang, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pikepdf
import psutil
import pytest

from tests.conftest import DATA, SIX_PAGES, Stack, running_stack, submit, wait_for_end, wait_until

pytestmark = pytest.mark.acceptance

PAGE = DATA / "huckleberry-finn-p22.pdf"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two processes, whose engine fails as the title of a document says (tests/plugins/faults)."""
    with running_stack(
        tmp_path_factory.mktemp("faulty"),
        OCR_PLUGINS="tests.plugins.faults",
        OCR_LEASE_SECONDS="2",
        OCR_WORKER_PROCESSES="2",
    ) as running:
        yield running


@pytest.fixture
def http(faulty: Stack) -> Iterator[httpx.Client]:
    with faulty.client() as client:
        yield client


def programs(stack: Stack) -> list[psutil.Process]:
    """The programs that hang in pages of the stack's jobs."""
    assert stack.process is not None
    found = []
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "sleep":
                found.append(child)
    return found


def repeated(path: Path, page: Path, times: int) -> Path:
    """A document with the same page several times."""
    with pikepdf.open(page) as source, pikepdf.new() as target:
        for _ in range(times):
            target.pages.append(source.pages[0])
        target.save(path)
    return path


def failures(job: dict[str, Any]) -> list[tuple[int, str]]:
    return [(row["page"], row["code"]) for row in job["failed_pages"]]


def processes(stack: Stack, status: str) -> list[psutil.Process]:
    assert stack.process is not None
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return [child for child in children if child.status() == status]


def test_the_pages_of_a_document_are_read_by_several_processes(
    faulty: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    seen = len(faulty.log.read_text())
    job = submit(http, repeated(tmp_path / "in.pdf", PAGE, 6), title="fault: slow").json()

    ended = wait_for_end(http, job)

    assert ended["state"] == "succeeded"
    assert failures(ended) == []
    texts = {http.get(f"{job['links']['self']}/pages/{n}/text").text for n in range(1, 7)}
    assert len(texts) == 1
    assert "stooping down so as" in http.get(f"{job['links']['self']}/text").text
    log = faulty.log.read_text()[seen:]
    assert "read_pages" in log
    assert "is given back" not in log


def test_chosen_pages_and_options_reach_the_helpers(
    faulty: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    seen = len(faulty.log.read_text())
    source = repeated(tmp_path / "in.pdf", PAGE, 6)
    options = {"pages": "1,3-end", "deskew": "true", "rotate_pages": "true", "mode": "force"}

    ended = wait_for_end(
        http, submit(http, source, title="fault: slow", page_segmentation="4", **options).json()
    )

    assert (ended["state"], failures(ended)) == ("succeeded", [])
    read = [
        "stooping down so as" in http.get(f"{ended['links']['self']}/pages/{n}/text").text
        for n in range(1, 7)
    ]
    assert read == [True, False, True, True, True, True]
    log = faulty.log.read_text()[seen:]
    assert "read_pages" in log
    assert "helpers could be called" not in log
    assert "is given back" not in log


def test_a_small_document_does_not_wait_for_a_large_one(http: httpx.Client, tmp_path: Path) -> None:
    large = submit(http, repeated(tmp_path / "in.pdf", PAGE, 12), title="fault: slow").json()
    link = large["links"]["self"]
    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)

    small = wait_for_end(http, submit(http, PAGE).json())

    assert small["state"] == "succeeded"
    assert http.get(link).json()["state"] == "running"
    assert wait_for_end(http, large)["state"] == "succeeded"


def test_a_page_that_kills_its_helpers_does_not_spoil_the_document(
    http: httpx.Client, tmp_path: Path
) -> None:
    job = submit(http, repeated(tmp_path / "in.pdf", PAGE, 6), title="fault: die 2").json()

    ended = wait_for_end(http, job)

    assert ended["state"] == "succeeded"
    # Its owner may have read it in the end; that one is spared.
    assert failures(ended) in ([], [(2, "page_crashed")])


def test_a_page_of_a_helper_that_stands_still_is_read_by_somebody_else(
    faulty: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    job = submit(http, repeated(tmp_path / "in.pdf", PAGE, 4), title="fault: stop 2").json()
    try:
        ended = wait_for_end(http, job)
    finally:
        for process in processes(faulty, psutil.STATUS_STOPPED):
            os.kill(process.pid, signal.SIGCONT)

    assert ended["state"] == "succeeded"
    assert failures(ended) == []
    # What it goes on with counts no more, and it is of use again.
    again = submit(http, repeated(tmp_path / "in.pdf", PAGE, 2)).json()
    assert wait_for_end(http, again)["state"] == "succeeded"


def test_priorities_are_kept(tmp_path: Path) -> None:
    with (
        running_stack(
            tmp_path, OCR_PLUGINS="tests.plugins.faults", OCR_WORKER_PROCESSES="1"
        ) as stack,
        stack.client() as http,
    ):
        first = submit(http, PAGE, title="fault: slow").json()
        wait_until(lambda: http.get(first["links"]["self"]).json()["state"] == "running")
        jobs = [
            submit(http, PAGE, priority=priority).json()
            for priority in ("bulk", "normal", "interactive")
        ]
        ended = [wait_for_end(http, job) for job in jobs]
    ended.sort(key=lambda job: job["started_at"])
    assert [job["options"]["priority"] for job in ended] == ["interactive", "normal", "bulk"]


def test_a_document_steps_aside_where_every_process_has_one(tmp_path: Path) -> None:
    with (
        running_stack(
            tmp_path,
            OCR_PLUGINS="tests.plugins.faults",
            OCR_WORKER_PROCESSES="1",
            OCR_TURN_SECONDS="1",
        ) as stack,
        stack.client() as http,
    ):
        large = submit(http, repeated(tmp_path / "in.pdf", PAGE, 8), title="fault: slow").json()
        link = large["links"]["self"]
        wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)

        small = wait_for_end(http, submit(http, PAGE).json())

        assert small["state"] == "succeeded"
        halted = http.get(link).json()
        assert halted["state"] in ("queued", "running")
        done = halted["progress"]["pages_done"]
        assert 1 <= done < 8
        ended = wait_for_end(http, large)
        assert ended["state"] == "succeeded"
        assert failures(ended) == []
        log = http.get(f"{link}/log").text
    assert "steps aside" in log
    assert "is given back" not in stack.log.read_text()


def test_a_running_job_is_cancelled_with_everything_it_runs_and_can_be_run_again(
    faulty: Stack, http: httpx.Client
) -> None:
    job = submit(http, SIX_PAGES, mode="force", title="fault: hang").json()
    link = job["links"]["self"]
    wait_until(lambda: len(programs(faulty)) == min(os.cpu_count() or 1, 6))

    cancelled = http.post(f"{link}/cancel")

    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    assert cancelled.json()["error"]["code"] == "job_cancelled"
    wait_until(lambda: not programs(faulty), 10)
    again = http.post(f"{link}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_ended")
    nothing = http.get(f"{link}/pdf")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "job_without_result")
    folder = faulty.data_dir / "jobs" / job["id"][:2] / job["id"]
    wait_until(lambda: not (folder / "work").exists(), 10)

    retried = http.post(f"{link}/retry")
    assert retried.status_code == 202
    assert retried.json()["attempt"] == 2
    wait_until(lambda: programs(faulty))
    assert http.delete(link).status_code == 204
    wait_until(lambda: not folder.exists() and not programs(faulty), 10)
