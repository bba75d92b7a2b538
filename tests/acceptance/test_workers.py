"""Several worker processes and one document; pages that hang, and processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests import documents
from tests.acceptance.conftest import cancel_all
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("faulty")]

TEXT = "stooping down so as"
PAGE = ("page.pdf", documents.scan(TEXT))


@pytest.fixture
def http(faulty: Stack) -> Iterator[httpx.Client]:
    with faulty.client() as client:
        yield client
        cancel_all(client)


def programs(stack: Stack) -> list[psutil.Process]:
    """Returns the programs that hang in pages of the stack's jobs."""
    assert stack.process is not None
    found = []
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "sleep":
                found.append(child)
    return found


def pages(count: int) -> tuple[str, bytes]:
    """Returns a document with the same text on each page, which is quickly processed."""
    return ("in.pdf", documents.scan(*[TEXT] * count))


def failures(job: dict[str, Any]) -> list[tuple[int, str]]:
    return [(row["page"], row["code"]) for row in job["failed_pages"]]


def processes(stack: Stack, status: str) -> list[psutil.Process]:
    assert stack.process is not None
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return [child for child in children if child.status() == status]


def test_the_pages_of_a_document_are_processed_by_several_processes(
    faulty: Stack, http: httpx.Client
) -> None:
    seen = len(faulty.log.read_text())
    job = submit(http, pages(6), title="fault: slow").json()

    ended = wait_for_end(http, job)

    assert ended["state"] == "succeeded"
    assert failures(ended) == []
    texts = {http.get(f"{job['links']['self']}/pages/{n}/text").text for n in range(1, 7)}
    assert len(texts) == 1
    assert TEXT in http.get(f"{job['links']['self']}/text").text
    log = faulty.log.read_text()[seen:]
    assert "read_pages" in log
    assert "failed and is released" not in log


def test_selected_pages_and_options_reach_the_helpers(faulty: Stack, http: httpx.Client) -> None:
    seen = len(faulty.log.read_text())
    source = pages(6)
    options = {"pages": "1,3-end", "deskew": "true", "rotate_pages": "true", "mode": "force"}

    ended = wait_for_end(
        http, submit(http, source, title="fault: slow", page_segmentation="4", **options).json()
    )

    assert (ended["state"], failures(ended)) == ("succeeded", [])
    read = [TEXT in http.get(f"{ended['links']['self']}/pages/{n}/text").text for n in range(1, 7)]
    assert read == [True, False, True, True, True, True]
    log = faulty.log.read_text()[seen:]
    assert "read_pages" in log
    assert "could not call helpers" not in log
    assert "helpers could be called" not in log
    assert "failed and is released" not in log


def test_a_small_document_does_not_wait_for_a_large_one(http: httpx.Client) -> None:
    large = submit(http, pages(12), title="fault: slow").json()
    link = large["links"]["self"]
    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)

    small = wait_for_end(http, submit(http, PAGE).json())
    large = wait_for_end(http, large)

    assert (small["state"], large["state"]) == ("succeeded", "succeeded")
    assert small["ended_at"] < large["ended_at"]


def test_a_page_that_kills_its_helpers_does_not_fail_the_document(http: httpx.Client) -> None:
    job = submit(http, pages(6), title="fault: die 2").json()

    ended = wait_for_end(http, job)

    assert ended["state"] == "succeeded"
    # Its owner may have processed it in the end, and is not killed.
    assert failures(ended) in ([], [(2, "page_crashed")])


def test_a_page_of_a_suspended_helper_is_processed_by_another_process(
    faulty: Stack, http: httpx.Client
) -> None:
    job = submit(http, pages(4), title="fault: stop 2").json()
    try:
        ended = wait_for_end(http, job)
    finally:
        for process in processes(faulty, psutil.STATUS_STOPPED):
            os.kill(process.pid, signal.SIGCONT)

    assert ended["state"] == "succeeded"
    assert failures(ended) == []
    # Its late result is ignored, and the process can be used again.
    again = submit(http, pages(2)).json()
    assert wait_for_end(http, again)["state"] == "succeeded"


def test_a_running_job_is_cancelled_with_all_its_programs_and_can_be_retried(
    faulty: Stack, http: httpx.Client
) -> None:
    job = submit(http, pages(6), title="fault: hang").json()
    link = job["links"]["self"]
    wait_until(lambda: len(programs(faulty)) == min(os.cpu_count() or 1, 6))

    cancelled = http.post(f"{link}/cancel")

    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    assert cancelled.json()["error"]["code"] == "job_cancelled"
    wait_until(lambda: not programs(faulty))
    again = http.post(f"{link}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_ended")
    nothing = http.get(f"{link}/pdf")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "job_without_result")
    folder = faulty.data_dir / "jobs" / job["id"][:2] / job["id"]
    wait_until(lambda: not (folder / "work").exists())

    retried = http.post(f"{link}/retry")
    assert retried.status_code == 202
    assert retried.json()["attempt"] == 2
    wait_until(lambda: programs(faulty))
    assert http.delete(link).status_code == 204
    wait_until(lambda: not folder.exists() and not programs(faulty))
