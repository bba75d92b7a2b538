"""Several documents and one process: their order, and when a document yields to another."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.acceptance.conftest import open_gate
from tests.acceptance.test_workers import PAGE, failures, pages
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("single")]


@pytest.fixture
def http(single: Stack) -> Iterator[httpx.Client]:
    with single.client() as client:
        yield client


def test_priorities_are_kept(single: Stack, http: httpx.Client) -> None:
    first = submit(http, PAGE, title="fault: gate").json()
    wait_until(lambda: http.get(first["links"]["self"]).json()["state"] == "running")
    sent = ["bulk"] * 3 + ["normal"] * 2 + ["interactive"] * 2
    jobs = [submit(http, PAGE, priority=priority).json() for priority in sent]
    open_gate(single, first)
    ended = [wait_for_end(http, job) for job in jobs]

    ended.sort(key=lambda job: job["started_at"])
    order = [job["options"]["priority"] for job in ended]
    # One message in five is taken from the last queue, which prevents starvation.
    others = [priority for priority in order if priority != "bulk"]
    assert others == ["interactive", "interactive", "normal", "normal"]
    assert order[-1] == "bulk"


def test_a_document_yields_when_every_process_has_one(single: Stack, http: httpx.Client) -> None:
    seen = len(single.log.read_text())
    large = submit(http, pages(8), title="fault: slow").json()
    link = large["links"]["self"]
    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] >= 1)

    small = wait_for_end(http, submit(http, PAGE).json())
    ended = wait_for_end(http, large)

    assert (small["state"], ended["state"]) == ("succeeded", "succeeded")
    assert ended["started_at"] < small["started_at"]
    assert small["ended_at"] < ended["ended_at"]
    assert failures(ended) == []
    log = http.get(f"{link}/log").text
    assert "yield to another document" in log
    assert "failed and is released" not in single.log.read_text()[seen:]
