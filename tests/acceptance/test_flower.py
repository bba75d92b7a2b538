"""Flower shows jobs and no secrets; a task that it terminates is a cancelled job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from ocr_tasks import cli
from ocr_tasks import settings as ours
from tests import documents
from tests.conftest import Stack, free_port, submit, wait_for_end, wait_until
from tests.dashboards import FLOWER_PASSWORD, REDIS_PASSWORD, Flower, flower

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("featured")]

PAGE = ("page.pdf", documents.scan("garden"))
PAGES = ("pages.pdf", documents.scan("garden", "window"))
EVIL = '<img src=x onerror="window.evil=1">\u202e\n'


@pytest.fixture(scope="module")
def stack(featured: Stack) -> Stack:
    return featured


@pytest.fixture(scope="module")
def dashboard(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    """Runs a Flower that may change something."""
    folder = tmp_path_factory.mktemp("dashboard")
    with flower(stack, folder, OCR_FLOWER_WRITABLE="true") as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client; at the beginning no job waits, and at the end its jobs are deleted."""
    with stack.client() as client:
        wait_until(lambda: not lengths(client))
        before = {job["id"] for job in jobs(client)}
        yield client
        for job in jobs(client):
            if job["id"] not in before:
                client.delete(job["links"]["self"])
        wait_until(lambda: not lengths(client))


def jobs(http: httpx.Client) -> list[dict[str, Any]]:
    return list(http.get("/v1/jobs?limit=200").json()["jobs"])


@pytest.fixture
def shown(dashboard: Flower) -> Iterator[httpx.Client]:
    with dashboard.client() as client:
        yield client


def lengths(http: httpx.Client) -> float:
    """Returns the number of messages in each queue."""
    lines = http.get("/metrics").text.splitlines()
    return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith("ocr_queue_messages{"))


def state_of(http: httpx.Client, job: dict[str, Any]) -> str:
    return str(http.get(job["links"]["self"]).json()["state"])


def shown_as(shown: httpx.Client, task_id: str, state: str) -> dict[str, Any]:
    """Returns a task as Flower shows it, once it has this state there."""

    def task() -> dict[str, Any] | None:
        answer = shown.get(f"/api/task/info/{task_id}")
        found = answer.json() if answer.status_code == 200 else None
        return found if found and found["state"] == state else None

    return dict(wait_until(task))


def blocked(http: httpx.Client, file: tuple[str, bytes] = PAGE) -> dict[str, Any]:
    """Runs a job that does not end."""
    job = submit(http, file, title="fault: hang").json()
    wait_until(lambda: state_of(http, job) == "running")
    return dict(job)


def test_a_job_is_shown_with_its_id_and_its_type(http: httpx.Client, shown: httpx.Client) -> None:
    name = f"{EVIL}{'x' * 100}.pdf"
    job = wait_for_end(http, submit(http, (name, PAGE[1]), priority="bulk").json())

    task = shown_as(shown, job["id"], "SUCCESS")

    assert task["args"].startswith("<img src=x onerror=")
    assert task["args"].endswith("… · 1 page · eng")
    assert task["args"].isprintable()
    assert task["kwargs"] == "skip, bulk"
    result = shown.get(f"/api/task/result/{job['id']}").json()
    assert result["result"]["pages"] == 1


def test_lengths_of_queues_are_correct(http: httpx.Client, shown: httpx.Client) -> None:
    for _ in range(2):
        blocked(http)
    for priority, number in (("interactive", 1), ("normal", 2), ("bulk", 3)):
        for _ in range(number):
            submit(http, PAGE, priority=priority)

    queues = shown.get("/api/queues/length").json()["active_queues"]

    lengths = {row["name"]: row["messages"] for row in queues}
    assert (
        lengths.items() >= {"ocr.interactive": 1, "ocr": 2, "ocr.pages": 0, "ocr.bulk": 3}.items()
    )
    page = shown.get("/broker").text
    assert re.search(r"ocr\.bulk.*?>\s*3\s*<", page, re.S)


@pytest.mark.parametrize("how", ["revoke/{}", "revoke/{}?terminate=true", "abort/{}"])
def test_a_task_that_flower_terminates_is_cancelled_and_can_be_retried(
    http: httpx.Client, shown: httpx.Client, how: str
) -> None:
    running, _ = blocked(http), blocked(http)
    waiting = submit(http, PAGE).json()
    for job in (running, waiting):
        assert shown.post(f"/api/task/{how.format(job['id'])}").status_code == 200
        ended = wait_for_end(http, job)
        assert ended["state"] == "cancelled"
        assert ended["error"]["code"] == "job_cancelled"
        shown_as(shown, job["id"], "REVOKED")

    # A worker would remember Celery's own revoke, and drop the job.
    assert http.post(f"{waiting['links']['self']}/retry").status_code == 202
    assert wait_for_end(http, waiting)["state"] == "succeeded"
    shown_as(shown, waiting["id"], "SUCCESS")


def test_a_helper_cannot_be_terminated(
    http: httpx.Client, stack: Stack, shown: httpx.Client
) -> None:
    job = blocked(http, PAGES)

    def helper() -> dict[str, Any] | None:
        """Returns the helper's task, as the worker itself describes it."""
        (name,) = shown.get("/api/workers").json()
        rows = shown.get("/api/workers", params={"refresh": "1", "workername": name}).json()
        tasks = rows[name].get("active", [])
        return next((task for task in tasks if task["name"].endswith("read_pages")), None)

    before = wait_until(helper)
    assert before["args"] == f"helps {job['id']}"

    shown.post(f"/api/task/revoke/{before['id']}?terminate=true&signal=SIGKILL")

    wait_until(lambda: f"cancel {before['id']}: helps job {job['id']}" in stack.log.read_text())
    after = wait_until(helper)
    assert (after["id"], after["worker_pid"]) == (before["id"], before["worker_pid"])
    assert state_of(http, job) == "running"
    shown.post(f"/api/task/revoke/{job['id']}")
    assert wait_for_end(http, job)["state"] == "cancelled"
    wait_until(lambda: helper() is None)


def test_it_is_read_only_unless_configured_otherwise(
    http: httpx.Client, stack: Stack, tmp_path: Path
) -> None:
    job = blocked(http)
    with flower(stack, tmp_path, OCR_FLOWER_URL_PREFIX="flower") as running:
        with running.client() as shown:
            (worker,) = shown.get("/api/workers").json()
            for change in (
                f"task/revoke/{job['id']}?terminate=true",
                f"task/abort/{job['id']}",
                "task/send-task/ocr_tasks.tasks.ocr_document",
                f"worker/shutdown/{worker}",
            ):
                assert shown.post(f"/api/{change}", json={}).status_code == 403, change
            assert worker in shown.get("/workers").text
            assert shown.get("/broker").status_code == 200
        assert httpx.get(running.url.removesuffix("/flower") + "/tasks").status_code == 404
    assert state_of(http, job) == "running"


def test_no_page_shows_a_secret(stack: Stack, dashboard: Flower, shown: httpx.Client) -> None:
    (worker,) = shown.get("/api/workers", params={"refresh": "1"}).json()
    wait_until(lambda: shown.get(f"/worker/{worker}").status_code == 200)
    seen = [
        shown.get(path).text
        for path in ("/", "/workers", f"/worker/{worker}", "/broker", "/tasks", "/metrics")
    ]
    seen.append(json.dumps(shown.get("/api/workers").json()))
    seen += [dashboard.log.read_text(), stack.log.read_text()]

    assert "broker_url" in seen[2] or "Broker URL" in seen[2]
    for text in seen:
        assert REDIS_PASSWORD not in text
        assert FLOWER_PASSWORD not in text


def test_nothing_is_shown_without_the_password(dashboard: Flower) -> None:
    with httpx.Client(base_url=dashboard.url) as stranger:
        for path in ("/", "/tasks", "/broker", "/metrics", "/api/workers", "/api/queues/length"):
            assert stranger.get(path).status_code == 401, path
            assert stranger.get(path, auth=("ocr", "wrong")).status_code == 401, path
        assert stranger.post("/api/task/revoke/x").status_code == 401
        assert stranger.get("/healthcheck").text == "OK"


def test_without_a_password_the_api_is_disabled(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    own = {"OCR_FLOWER_PORT": str(port), "FLOWER_UNAUTHENTICATED_API": "true"}
    command = [sys.executable, "-m", "ocr_tasks.cli", "flower"]
    process = subprocess.Popen(command, env=stack.environment | own, cwd=tmp_path)
    try:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/tasks").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers)
        assert httpx.get(f"http://127.0.0.1:{port}/api/workers").status_code == 401
        assert httpx.post(f"http://127.0.0.1:{port}/api/task/revoke/x").status_code == 401
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"OCR_FLOWER_HOST": "0.0.0.0"}, "set OCR_FLOWER_PASSWORD"),
        ({"OCR_FLOWER_WRITABLE": "true"}, "OCR_FLOWER_WRITABLE requires OCR_FLOWER_PASSWORD"),
        ({"OCR_FLOWER_USER": "a:b"}, "OCR_FLOWER_USER"),
    ],
    ids=["reachable", "writable", "user"],
)
def test_it_does_not_start_if_anyone_could_use_it(
    settings: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    ours.clear()
    try:
        assert cli.main(["flower"]) == 2
    finally:
        ours.clear()
    assert words in capsys.readouterr().err


def test_its_pages_work_in_a_browser(
    browser: Browser, http: httpx.Client, dashboard: Flower
) -> None:
    done = wait_for_end(http, submit(http, (f"{EVIL}.pdf", PAGE[1])).json())
    job = blocked(http)
    context = browser.new_context(
        http_credentials={"username": "ocr", "password": FLOWER_PASSWORD},
        viewport={"width": 1300, "height": 700},
    )
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{dashboard.url}/tasks")
    expect(page.locator("#tasks-table")).to_contain_text("page.pdf · 1 page · eng")
    expect(page.locator("#tasks-table")).to_contain_text(done["id"])
    picture(page, "flower-tasks")

    page.goto(f"{dashboard.url}/task/{job['id']}")
    expect(page.locator("body")).to_contain_text(job["id"])
    picture(page, "flower-task")
    page.get_by_role("button", name="Terminate").click()
    assert wait_for_end(http, job)["state"] == "cancelled"

    page.goto(f"{dashboard.url}/broker")
    expect(page.locator("body")).to_contain_text("ocr.interactive")
    picture(page, "flower-broker")
    assert page.evaluate("window.evil") is None
    context.close()


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.wait_for_timeout(300)
        page.screenshot(path=Path(folder) / f"{name}.png")
