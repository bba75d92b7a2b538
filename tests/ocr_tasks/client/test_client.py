"""Tests of both Python clients against a misbehaving server, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_tasks.client import ApiError, AsyncClient, Client, Job, TransferError, models, retries
from ocr_tasks.client.problems import parse_retry_after
from ocr_tasks.client.retries import Retries
from ocr_tasks.storage import layout
from tests.conftest import free_port, run_async
from tests.unsteady import Request, Server, Step, answers, breaks_off, hangs_up, refuses

JOB = {"id": "j1", "state": "queued", "progress": {"pages_done": 0, "pages_total": 2}}
DONE = {**JOB, "state": "succeeded"}


Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: Server) -> Ask:
    """Calls a method of a client of the server; returns iterators as lists."""

    def with_threads(method: str, *given: Any, patience: float = 30, **named: Any) -> Any:
        with Client(server.url, patience=patience, verify=False) as client:
            found = getattr(client, method)(*given, **named)
            return list(found) if inspect.isgenerator(found) else found

    def with_asyncio(method: str, *given: Any, patience: float = 30, **named: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(server.url, patience=patience, verify=False) as client:
                found = getattr(client, method)(*given, **named)
                if isinstance(found, AsyncIterator):
                    return [row async for row in found]
                return await found

        return run_async(run())

    return with_threads if request.param == "sync" else with_asyncio


# Repeated requests


def test_a_lost_upload_is_sent_again_in_full_with_the_same_key(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF " + os.urandom(300_000))
    server.script = [hangs_up, refuses(503, "queue_full", Retry_After="0"), answers(202, JOB)]

    job = ask("submit", tmp_path / "scan.pdf", languages=["deu", "eng"], deskew=True, title=None)

    assert (job.id, job.state) == ("j1", "queued")
    assert len({request.headers["Idempotency-Key"] for request in server.got}) == 1
    for request in server.got:
        assert (tmp_path / "scan.pdf").read_bytes() in request.body
        assert b'name="file"; filename="scan.pdf"\r\nContent-Type: application/pdf' in request.body
        assert request.body.count(b'name="languages"') == 2
        assert b'name="deskew"\r\n\r\ntrue\r\n' in request.body
        assert b'name="title"' not in request.body


def test_each_upload_has_its_own_key_or_the_given_one(server: Server, ask: Ask) -> None:
    server.script = [answers(202, JOB)] * 3

    ask("submit", b"%PDF", ("scan.png", io.BytesIO(b"png")))
    ask("submit", b"%PDF")
    ask("submit", b"%PDF", idempotency_key="mine")

    keys = [request.headers["Idempotency-Key"] for request in server.got]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"
    assert b'filename="document-1"' in server.got[0].body
    assert b'filename="scan.png"' in server.got[0].body


def test_a_stream_that_can_be_read_only_once_is_sent_only_once(server: Server, ask: Ask) -> None:
    def piped() -> io.BufferedReader:
        end, start = os.pipe()
        os.write(start, b"%PDF from a pipe")
        os.close(start)
        return os.fdopen(end, "rb")

    server.script = [answers(202, JOB), hangs_up]

    with piped() as pipe:
        ask("submit", ("scan.pdf", pipe))
    with piped() as pipe, pytest.raises(httpx.TransportError):
        ask("submit", ("scan.pdf", pipe))

    assert all(b"%PDF from a pipe" in request.body for request in server.got)
    assert len(server.got) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_server_is_asked_again(server: Server, ask: Ask, status: int) -> None:
    server.script = [refuses(status, "full", Retry_After="0"), answers(200, DONE)]

    assert ask("job", "j1").succeeded
    assert len(server.got) == 2


def test_a_retry_after_longer_than_the_timeout_fails_at_once(server: Server, ask: Ask) -> None:
    server.script = [refuses(429, "limit_reached", Retry_After="86400")]

    with pytest.raises(ApiError) as refused:
        ask("job", "j1")

    assert (refused.value.code, refused.value.retry_after) == ("limit_reached", 86400)
    assert refused.value.retryable


def test_a_refusal_contains_advice_and_is_not_retried(server: Server, ask: Ask) -> None:
    server.script = [refuses(422, "pdf_encrypted")]

    with pytest.raises(ApiError) as refused:
        ask("submit", b"%PDF")

    error = refused.value
    assert (error.status, error.code, error.detail, error.advice) == (
        *(422, "pdf_encrypted", "No", "Go."),
    )
    assert not error.retryable
    assert str(error) == "No. Go."
    assert error.problem["new"] == 1
    assert len(server.got) == 1


def test_an_error_page_of_a_proxy_is_an_error(server: Server, ask: Ask) -> None:
    server.script = [answers(502, b"<h1>Bad gateway"), answers(200, DONE)]
    assert ask("job", "j1").succeeded

    server.script = [answers(500, b"<h1>Oh")]
    with pytest.raises(ApiError, match="HTTP status 500") as refused:
        ask("job", "j1")
    assert refused.value.code == "unknown"


def test_another_server_and_a_redirect_are_reported(server: Server, ask: Ask) -> None:
    server.script = [answers(200, b"<h1>Welcome"), answers(301, Location="https://ocr.example/")]

    with pytest.raises(ApiError, match="not an OCR Tasks server"):
        ask("job", "j1")
    with pytest.raises(ApiError, match=r"another URL: https://ocr\.example/"):
        ask("job", "j1")


@pytest.mark.parametrize("what", ["workspace", "upload"])
def test_a_job_may_have_an_uploaded_file_but_not_zero_files(
    server: Server, ask: Ask, what: str
) -> None:
    server.script = [answers(202, JOB)]

    ask("submit", **{what: "x1"})
    with pytest.raises(ValueError, match="no file"):
        ask("submit")

    (got,) = server.got
    assert f'name="{what}"\r\n\r\nx1\r\n'.encode() in got.body
    assert got.headers["Content-Type"].startswith("multipart/form-data")


def test_a_retry_of_a_job_is_only_repeated_if_it_had_no_effect(server: Server, ask: Ask) -> None:
    server.script = [hangs_up]
    with pytest.raises(httpx.TransportError):
        ask("retry", "j1")
    assert len(server.got) == 1

    server.script = [refuses(503, "queue_unavailable", Retry_After="0"), answers(202, JOB)]
    assert ask("retry", "j1").state == "queued"


def test_an_unreachable_server_is_an_error_after_the_timeout(ask: Ask, server: Server) -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}", patience=0.1, verify=False) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.job("j1")
    assert not server.got


def test_cancelling_a_finished_job_returns_it_unchanged(server: Server, ask: Ask) -> None:
    server.script = [refuses(409, "job_ended"), answers(200, DONE)]

    assert ask("cancel", "j1").succeeded


def test_deleting_succeeds_if_the_first_response_is_lost(server: Server, ask: Ask) -> None:
    server.script = [hangs_up, refuses(410, "job_deleted")]

    ask("delete", "j1")

    assert [request.command for request in server.got] == ["DELETE", "DELETE"]


def test_ids_cannot_lead_to_other_urls(server: Server, ask: Ask) -> None:
    server.script = [answers(200, JOB)]

    ask("job", "../../metrics?x")

    assert server.got[0].path == "/v1/jobs/..%2F..%2Fmetrics%3Fx"


# Waiting


def test_waiting_continues_after_lost_connections_and_restarts(server: Server, ask: Ask) -> None:
    running = {**JOB, "state": "running", "progress": {"pages_done": 1, "percent": 50.0}}
    server.script = [
        answers(200, JOB, ETag='"1"'),
        hangs_up,
        refuses(503, "queue_unavailable", Retry_After="0"),
        answers(200, running, ETag='"2"'),
        answers(502, b"restarting"),
        answers(200, DONE, ETag='"3"'),
    ]
    told: list[Job] = []

    job = ask("wait", "j1", told.append)

    assert job.succeeded
    assert [row.state for row in told] == ["queued", "running", "succeeded"]
    assert told[1].progress.percent == 50
    tags = [request.headers.get("If-None-Match") for request in server.got]
    assert tags == [None, '"1"', '"1"', '"1"', '"2"', '"2"']


def test_a_progress_callback_may_be_a_coroutine(server: Server) -> None:
    server.script = [answers(200, DONE, ETag='"1"')]
    told: list[Job] = []

    async def tell(job: Job) -> None:
        await asyncio.sleep(0)
        told.append(job)

    async def run() -> None:
        async with AsyncClient(server.url, verify=False) as client:
            await client.wait("j1", tell)

    run_async(run())
    assert [job.id for job in told] == ["j1"]


def test_waiting_may_have_a_timeout(server: Server, ask: Ask) -> None:
    server.script = [answers(200, JOB, ETag='"1"'), answers(304, Retry_After="1")]

    with pytest.raises(TimeoutError, match="j1"):
        ask("wait", "j1", timeout=0.2)


# Events


def event(number: int, job: dict[str, Any]) -> bytes:
    return f"event: job\nid: {number}\ndata: {json.dumps(job, ensure_ascii=False)}\n\n".encode()


def stream(content: bytes) -> Step:
    """A stream that the server ends after these events."""

    def step(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        request.wfile.write(content)
        request.close_connection = True

    return step


def test_a_broken_stream_resumes_after_its_last_event(server: Server, ask: Ask) -> None:
    half = event(3, {**JOB, "state": "running"})[:-20]
    strange = {**JOB, "state": "running", "input": {"name": "a\u2028b\x85c"}}
    server.script = [
        stream(b"retry: 2000\n\n" + event(1, JOB) + b": still here\n\n" + half),
        hangs_up,
        refuses(503, "too_many_waiting", Retry_After="0"),
        stream(event(4, strange)),
        stream(event(5, DONE)),
    ]

    events = ask("events", "j1")

    assert [row.id for row in events] == ["1", "4", "5"]
    assert [row.job.state for row in events] == ["queued", "running", "succeeded"]
    assert events[1].job.input.name == "a\u2028b\x85c"
    last = [request.headers.get("Last-Event-ID") for request in server.got]
    assert last == [None, "1", "1", "1", "4"]


def test_a_stream_that_resumes_after_its_end_is_empty(server: Server, ask: Ask) -> None:
    server.script = [answers(204)]

    assert ask("events", "j1", last_event_id="5") == []
    assert server.got[0].headers["Last-Event-ID"] == "5"


def test_a_stream_of_an_unknown_job_is_refused(server: Server, ask: Ask) -> None:
    server.script = [refuses(404, "job_not_found")]

    with pytest.raises(ApiError) as refused:
        ask("events", "j1")
    assert refused.value.code == "job_not_found"


# Results

RESULT = os.urandom(200_000)
ETAG = f'"{hashlib.sha256(RESULT).hexdigest()}"'


def test_a_download_resumes_where_its_connection_was_lost(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    def rest(request: Request) -> None:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(RESULT) - 1}/{len(RESULT)}"
        answers(206, RESULT[start:], ETag=ETAG, Content_Range=span)(request)

    def some_more(request: Request) -> None:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(RESULT) - 1}/{len(RESULT)}"
        breaks_off(RESULT[start:], 50_000, 206, ETag=ETAG, Content_Range=span)(request)

    server.script = [breaks_off(RESULT, 100_000, ETag=ETAG), some_more, hangs_up, rest]

    ask("download", "j1", "pdf", tmp_path / "out.pdf")

    assert (tmp_path / "out.pdf").read_bytes() == RESULT
    assert [path.name for path in tmp_path.iterdir()] == ["out.pdf"]
    assert [request.headers.get("If-Range") for request in server.got] == [None, ETAG, ETAG, ETAG]


def test_a_result_that_changed_meanwhile_is_downloaded_from_its_beginning(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    server.script = [
        breaks_off(b"old" * 50_000, 100_000, ETag='"old"'),
        answers(200, RESULT, ETag=ETAG),
    ]
    with (tmp_path / "out").open("w+b") as file:
        file.write(b"before ")

        ask("download", "j1", "pdf", file)

    assert (tmp_path / "out").read_bytes() == b"before " + RESULT


def test_a_result_with_a_wrong_checksum_is_not_saved(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    (tmp_path / "out.pdf").write_bytes(b"what was there")
    server.script = [answers(200, RESULT[:-1] + b"!", ETag=ETAG)]

    with pytest.raises(TransferError, match="SHA-256"):
        ask("download", "j1", "pdf", tmp_path / "out.pdf")

    assert (tmp_path / "out.pdf").read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["out.pdf"]


def test_a_range_that_does_not_follow_is_refused(server: Server, ask: Ask, tmp_path: Path) -> None:
    server.script = [
        breaks_off(RESULT, 100_000, ETag=ETAG),
        answers(206, RESULT[7:], ETag=ETAG, Content_Range=f"bytes 7-{len(RESULT) - 1}/200000"),
    ]

    with pytest.raises(TransferError, match="another byte range"):
        ask("download", "j1", "pdf", tmp_path / "out.pdf")


def test_a_missing_result_is_an_error_and_creates_no_file(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    server.script = [refuses(409, "job_not_finished")]

    with pytest.raises(ApiError):
        ask("download", "j1", "pdf", tmp_path / "out.pdf")
    assert not list(tmp_path.iterdir())


# Lists and data


def test_the_list_of_jobs_is_fetched_page_by_page(server: Server, ask: Ask) -> None:
    rows = [{**JOB, "id": f"j{number}"} for number in range(3)]
    server.script = [
        answers(200, {"jobs": rows[:2], "next": "/v1/jobs?cursor=abc"}),
        answers(200, {"jobs": rows[2:], "next": None}),
    ]

    assert [job.id for job in ask("jobs", "queued")] == ["j0", "j1", "j2"]
    assert "state=queued" in server.got[0].path
    assert server.got[1].path == "/v1/jobs?cursor=abc"


def test_responses_of_newer_and_older_servers_are_accepted() -> None:
    told = {
        "id": "j1",
        "state": "pondering",
        "mood": "good",
        "created_at": "2026-11-21T20:00:00.123Z",
        "progress": {"percent": 5, "mood": "good"},
        "artifacts": [{"name": "pdf", "mood": "good"}],
        "failed_pages": [{"page": 3, "code": "page_timeout", "mood": "bad"}],
        "error": {"code": "new_code", "message": "Oh", "mood": "bad"},
    }

    job = Job.from_json(told)

    assert (job.state, job.ended, job.progress.percent) == ("pondering", False, 5)
    assert job.created_at == datetime(2026, 11, 21, 20, 0, 0, 123_000, UTC)
    assert [row.name for row in job.artifacts] == ["pdf"]
    assert job.failed_pages[0].page == 3
    assert job.error
    assert str(job.error) == "Oh"


def test_client_and_server_know_the_same_results() -> None:
    assert {name: row[2] for name, row in layout.ARTIFACTS.items()} == models.ENDINGS


# Tokens and delays


def test_the_token_is_a_parameter_or_an_environment_variable_or_a_secret_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [answers(200, JOB)] * 4
    (tmp_path / "ocr_token").write_text("from-file\n")
    monkeypatch.setenv("OCR_URL", server.url)

    def ask(**more: Any) -> None:
        with Client(verify=False, **more) as client:
            client.job("j1")

    ask()
    monkeypatch.setenv("OCR_SECRETS_DIR", str(tmp_path))
    ask()
    monkeypatch.setenv("OCR_TOKEN", "from-environment")
    ask()
    ask(token="given")

    sent = [request.headers.get("Authorization") for request in server.got]
    assert sent == [None, "Bearer from-file", "Bearer from-environment", "Bearer given"]


def test_delays_follow_retry_after_with_jitter() -> None:
    wanted = {Retries(1e9).next_pause(ApiError(503, {}, 10)) for _ in range(20)}

    assert min(wanted) >= 10
    assert max(wanted) < 20
    assert len(wanted) > 1
    # A delay of a year is limited.
    assert Retries(1e9).next_pause(ApiError(503, {}, 365 * 86400)) <= 1.5 * retries._LONGEST_PAUSE


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

    assert parse_retry_after("120") == 120
    assert 3000 < (parse_retry_after(soon) or 0) <= 3600
    assert parse_retry_after("Fri, 01 Jan 2021 00:00:00 GMT") == 0
    assert parse_retry_after("soon") is None
    assert parse_retry_after("") is None
