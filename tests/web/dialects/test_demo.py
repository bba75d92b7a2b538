"""The API of the OCR-with-progress demo, without a worker: formats, clients, refusals."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks.jobs import leases, lifecycle
from ocr_tasks.model import Progress, Scope, Stage
from ocr_tasks.security import tokens
from tests import documents
from tests.ocr_tasks.jobs.test_lifecycle import OUTCOME, report
from tests.web.conftest import Configure
from web.access import authentication
from web.dialects import demo

pytestmark = pytest.mark.usefixtures("service")

SCAN = documents.scan("one", "two")
NOTHING_YET = {"extracted_text": "", "finished": False, "download_url": ""}


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure(dialects="demo", max_upload_bytes="200000")


def send(http: FlaskClient, *files: bytes, **more: Any) -> TestResponse:
    form = {"file": [(io.BytesIO(file), "scan.pdf") for file in files], **more.pop("form", {})}
    return http.post("/ocr-pdf", data=form, content_type="multipart/form-data", **more)


def sent(http: FlaskClient, **more: Any) -> str:
    answer = send(http, SCAN, **more)
    assert answer.status_code == 200, answer.text
    assert answer.json.keys() == {"id"}
    job_id: str = answer.json["id"]
    return job_id


def progress(http: FlaskClient, **more: Any) -> dict[str, Any]:
    answer = http.get("/ocr-pdf/progress/", **more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def refused(answer: TestResponse, status: int, code: str) -> None:
    assert answer.content_type == "application/json"
    body = json.loads(answer.text)
    assert (answer.status_code, body["code"]) == (status, code), body
    assert body["error"].endswith(".")


def test_it_is_only_available_if_enabled(configure: Configure) -> None:
    assert configure().get("/ocr-pdf/progress/").status_code == 404


# A job


def test_a_document_becomes_a_job_that_processes_all_pages_again(http: FlaskClient) -> None:
    job = lifecycle.read(sent(http, form={"name": "../Brief an Anna.pdf"}))

    assert job.options["mode"] == "force"
    assert job.input.name == "Brief an Anna.pdf"
    assert http.get(f"/ocr-pdf/results/{job.id}").json == NOTHING_YET


def test_each_stage_is_reported_in_ocrmypdfs_words(http: FlaskClient) -> None:
    assert progress(http) == {}
    job_id = sent(http)
    waiting = {"total": None, "desc": "Waiting, place 1", "unit": None, "progress_bar": 0}
    assert progress(http) == {**waiting, "terminated": False}

    assert leases.acquire(job_id, "worker", "worker") is not None
    for stage, done, percent, shown in [
        (Stage.SCANNING, 0, 2.0, ("Scanning contents", 2.0, 100, "%")),
        (Stage.OCR, 0, 3.0, ("OCR", 0, 2, "page")),
        (Stage.OCR, 1, 45.5, ("OCR", 1, 2, "page")),
        (Stage.ASSEMBLING, 2, 90.0, ("PDF/A conversion", 90.0, 100, "%")),
        (Stage.OPTIMIZING, 2, 94.0, ("Optimizing", 94.0, 100, "%")),
        (Stage.STORING, 2, 97.0, ("Checking output", 97.0, 100, "%")),
    ]:
        report(job_id, "worker", "PROGRESS", Progress(stage, done, 2, percent).to_dict())
        said = progress(http)
        assert (said["desc"], said["progress_bar"], said["total"], said["unit"]) == shown
        assert said["terminated"] is False


def test_the_end_is_reported_with_the_url_of_the_pdf(http: FlaskClient) -> None:
    job_id = sent(http)
    assert leases.acquire(job_id, "worker", "worker") is not None
    report(job_id, "worker", "SUCCESS", OUTCOME.to_dict())

    said = progress(http)
    assert (said["desc"], said["progress_bar"], said["total"]) == ("Done", 2, 2)
    assert said["terminated"] is True
    address = f"/ocr-pdf/download/{job_id}_ocr.pdf"
    assert http.get(f"/ocr-pdf/results/{job_id}").json == {
        "finished": True,
        "download_url": address,
    }
    refused(http.get(address), 410, "result_gone")  # its file does not exist


def test_a_job_without_a_result_reports_why(http: FlaskClient) -> None:
    job_id = sent(http)
    lifecycle.cancel(job_id)

    said = progress(http)
    assert said["terminated"] is True
    assert said["desc"].startswith("The job was cancelled. ")
    result = http.get(f"/ocr-pdf/results/{job_id}").json
    assert result == {"finished": True, "download_url": "", "error": said["desc"]}
    refused(http.get(f"/ocr-pdf/download/{job_id}_ocr.pdf"), 409, "job_without_result")


def test_deleting_a_job_ends_the_polling_too(http: FlaskClient) -> None:
    job_id = sent(http)
    lifecycle.delete(job_id)

    assert progress(http)["terminated"] is True
    refused(http.get(f"/ocr-pdf/results/{job_id}"), 410, "job_deleted")


# Clients


def test_browsers_at_one_ip_address_see_their_own_last_jobs(http: FlaskClient) -> None:
    other = http.application.test_client()
    sent(http)
    mine = sent(http)
    theirs = sent(other)
    lifecycle.cancel(theirs)

    assert progress(http)["terminated"] is False
    assert progress(other)["terminated"] is True
    lifecycle.cancel(mine)
    assert progress(http)["terminated"] is True
    assert progress(http.application.test_client()) != {}  # without a cookie, by its IP address


def test_programs_without_cookies_are_identified_by_ip_address_and_user_agent(
    http: FlaskClient,
) -> None:
    program = http.application.test_client(use_cookies=False)
    sent(program, headers={"User-Agent": "one"})

    assert progress(program, headers={"User-Agent": "one"}) != {}
    assert progress(program, headers={"User-Agent": "two"}) == {}
    elsewhere = {"REMOTE_ADDR": "127.0.0.9"}
    assert progress(program, headers={"User-Agent": "one"}, environ_overrides=elsewhere) == {}


def test_the_cookie_cannot_be_read_by_scripts_and_is_sent_nowhere_else(http: FlaskClient) -> None:
    answer = send(http, SCAN)

    assert re.fullmatch(
        r"ocr_demo=[\w-]{22}; HttpOnly; Path=/ocr-pdf; SameSite=Strict",
        answer.headers["Set-Cookie"],
    )
    assert "Set-Cookie" not in send(http, SCAN).headers


def test_token_holders_see_only_their_own_jobs(configure: Configure) -> None:
    http = configure(dialects="demo", access="tokens")
    anna, ben = (
        {"Authorization": f"Bearer {tokens.create(name, {Scope.SUBMIT, Scope.READ})[1]}"}
        for name in ("anna", "ben")
    )
    job_id = sent(http, headers=anna)

    assert progress(http, headers=anna) != {}
    assert progress(http, headers=ben) == {}
    refused(http.get(f"/ocr-pdf/results/{job_id}", headers=ben), 404, "job_not_found")
    refused(http.get("/ocr-pdf/progress/"), 401, "not_authenticated")
    refused(send(http, SCAN, headers={"Authorization": "Bearer x"}), 401, "not_authenticated")


def test_a_signed_in_browser_needs_nothing_else(configure: Configure) -> None:
    http = configure(dialects="demo", access="tokens")
    _token, text = tokens.create("anna", {Scope.SUBMIT, Scope.READ})
    http.set_cookie(authentication.COOKIE, text)
    by_page = {"Sec-Fetch-Site": "same-origin"}
    job_id = sent(http, headers=by_page)

    assert progress(http, headers=by_page)["terminated"] is False
    assert http.get(f"/ocr-pdf/results/{job_id}", headers=by_page).json == NOTHING_YET
    refused(send(http, SCAN, headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site")


def test_the_last_job_is_remembered_for_a_day(http: FlaskClient, service: redis.Redis) -> None:
    sent(http)

    kept = service.keys("ocr:latest:*")
    assert len(kept) == 2  # by cookie, and by IP address until it is sent
    assert all(0 < service.ttl(key) <= 24 * 3600 for key in kept)
    assert demo._last_job_of("somebody else") is None


def test_only_pages_of_allowed_sites_may_use_it(configure: Configure) -> None:
    http = configure(dialects="demo", cors_origins="https://scans.example")
    allowed = send(http, SCAN, headers={"Origin": "https://scans.example"})

    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://scans.example"
    refused(send(http, SCAN, headers={"Origin": "https://evil.example"}), 403, "cross_site")


# Refusals


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        (lambda: documents.encrypted("user"), 422, "pdf_encrypted"),
        (lambda: b"Dear Sir or Madam", 415, "unsupported_type"),
        (lambda: b"", 422, "empty_file"),
        (lambda: b"x" * 300_000, 413, "upload_too_large"),
    ],
    ids=["encrypted", "text", "empty", "too-large"],
)
def test_an_invalid_document_is_refused(
    http: FlaskClient, document: Callable[[], bytes], status: int, code: str
) -> None:
    refused(send(http, document()), status, code)
    assert sum(lifecycle.counts().values()) == 0
    assert progress(http) == {}


def test_a_request_needs_exactly_one_file(http: FlaskClient) -> None:
    refused(send(http), 400, "missing_file")
    refused(send(http, SCAN, SCAN), 413, "too_many_files")
    refused(send(http, SCAN, form={"languages": "eng"}), 400, "malformed_request")
    refused(http.post("/ocr-pdf", data=SCAN), 400, "malformed_request")


@pytest.mark.parametrize(
    "name", ["x", "x_ocr.pdf", "_ocr.pdf", "00000000-0000-4000-8000-000000000000_ocr.pdf",
             "..%2F..%2Fetc%2Fpasswd", "result.pdf"],
)  # fmt: skip
def test_other_files_cannot_be_downloaded(http: FlaskClient, name: str) -> None:
    answer = http.get(f"/ocr-pdf/download/{name}")

    assert answer.status_code == 404


def test_every_stage_has_a_description() -> None:
    assert set(demo._WORDS) == set(Stage)
