"""The API for Nextcloud's OCR backend, without a worker: formats, tokens, refusals."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Request
from flask.testing import FlaskClient
from ocrmypdf.exceptions import ExitCode
from werkzeug.test import TestResponse

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Scope, State
from ocr_tasks.security import tokens
from tests import documents
from tests.ocr_tasks.jobs.test_owners import submit
from tests.web.conftest import Configure
from web.access import authentication
from web.api import events
from web.dialects import nextcloud
from web.http import slow_clients

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure(dialects="nextcloud", max_upload_bytes="200000")


def app_api(secret: str, user: str = "anna") -> dict[str, str]:
    """Returns the headers that Nextcloud's AppAPI sends."""
    return {
        "AUTHORIZATION-APP-API": base64.b64encode(f"{user}:{secret}".encode()).decode(),
        "EX-APP-ID": "workflow_ocr_backend",
        "EX-APP-VERSION": "1.35.0",
        "AA-VERSION": "35.0.0",
        "AA-REQUEST-ID": "CLI",
    }


def process(
    http: FlaskClient, *files: bytes, parameters: str = "--skip-text", **more: Any
) -> TestResponse:
    form: dict[str, Any] = {"file": [(io.BytesIO(file), "scan.pdf") for file in files]}
    form |= {"ocrmypdf_parameters": parameters}
    form |= more.pop("form", {})
    return http.post("/process_ocr", data=form, content_type="multipart/form-data", **more)


def refused(answer: TestResponse, exit_code: int, code: str, status: int = 500) -> str:
    """Returns the error message, in the format that Nextcloud parses."""
    assert answer.content_type == "application/json"
    body = json.loads(answer.text)
    assert body.keys() == {"message", "ocrMyPdfExitCode"}
    assert (answer.status_code, body["ocrMyPdfExitCode"]) == (status, exit_code), body
    assert body["message"].endswith(f"[{code}]"), body
    message: str = body["message"]
    return message


def test_it_is_only_available_if_enabled(configure: Configure) -> None:
    http = configure(dialects="demo")

    for method, path in (("GET", "/heartbeat"), ("POST", "/process_ocr"), ("PUT", "/enabled")):
        assert http.open(path, method=method).status_code == 404


# Requests of AppAPI


@pytest.mark.parametrize("user", ["", "anna", "Ünal"])
def test_nextcloud_registers_the_server_with_a_token_as_its_secret(
    configure: Configure, user: str
) -> None:
    http = configure(dialects="nextcloud", access="tokens")
    _token, secret = tokens.create("nextcloud", {Scope.SUBMIT, Scope.READ})
    headers = app_api(secret, user)

    assert http.get("/heartbeat").json == {"status": "ok"}
    assert http.post("/init", headers=headers).status_code == 501
    for switch in ("1", "0"):
        answer = http.put(f"/enabled?enabled={switch}", headers=headers)
        assert (answer.status_code, answer.json) == (200, {"error": ""})


@pytest.mark.parametrize(
    "header", [None, "", "!", "cGxhaW4=", "Ondyb25n", "/w==", base64.b64encode(b"a:" + b"\xff")]
)
def test_a_wrong_secret_is_detected_when_the_app_is_registered(
    configure: Configure, header: str | None
) -> None:
    http = configure(dialects="nextcloud", access="tokens")
    headers = {} if header is None else {"AUTHORIZATION-APP-API": header}

    refused(http.post("/init", headers=headers), 15, "not_authenticated", 401)
    answer = http.put("/enabled?enabled=1", headers=headers)
    assert answer.status_code == 401
    assert list(answer.json) == ["error"]
    assert "ocr-tasks tokens create" in answer.json["error"]
    refused(process(http, b"%PDF-", headers=headers), 15, "not_authenticated", 401)


def test_a_token_without_the_scope_submit_is_detected_when_the_app_is_registered(
    configure: Configure,
) -> None:
    http = configure(dialects="nextcloud", access="tokens")
    _token, secret = tokens.create("nextcloud", {Scope.READ})

    refused(http.post("/init", headers=app_api(secret)), 15, "scope_missing", 403)
    assert http.get("/installed_languages", headers=app_api(secret)).json == []


def test_the_header_of_appapi_is_only_accepted_for_its_own_urls(configure: Configure) -> None:
    http = configure(dialects="nextcloud", access="tokens")
    _token, secret = tokens.create("nextcloud", {Scope.ADMIN})

    assert http.get("/v1/jobs", headers=app_api(secret)).status_code == 401


def test_pages_of_other_sites_may_not_use_it(http: FlaskClient) -> None:
    answer = process(http, b"%PDF-", headers={"Origin": "https://evil.example"})

    refused(answer, 15, "cross_site", 403)


# Refusals

DOCUMENTS: dict[str, tuple[bytes | Callable[[], bytes], int, str]] = {
    "encrypted": (lambda: documents.encrypted("user"), 8, "pdf_encrypted"),
    "signed": (documents.signed, 2, "pdf_signed"),
    "text": (b"Dear Sir or Madam", 2, "unsupported_type"),
    "damaged": (b"%PDF-1.7\n1 0 obj\n<<", 2, "pdf_invalid"),
    "empty": (b"", 2, "empty_file"),
    "too-large": (b"x" * 300_000, 2, "upload_too_large"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_an_invalid_document_is_refused_like_ocrmypdf_refuses_it(
    http: FlaskClient, case: str
) -> None:
    document, exit_code, code = DOCUMENTS[case]
    answer = process(http, document() if callable(document) else document)

    refused(answer, exit_code, code)
    assert sum(lifecycle.counts().values()) == 0


def test_advice_uses_the_terms_of_nextclouds_flow_settings(http: FlaskClient) -> None:
    message = refused(process(http, documents.signed()), 2, "pdf_signed")

    assert "--invalidate-digital-signatures" in message


@pytest.mark.parametrize(
    "parameters", ["--oversample 300", "--plugin x", "--title 'x", "--redo-ocr --deskew"]
)
def test_unknown_parameters_are_refused(http: FlaskClient, parameters: str) -> None:
    refused(process(http, documents.scan("x"), parameters=parameters), 1, "invalid_options")
    assert sum(lifecycle.counts().values()) == 0


def test_missing_pages_are_refused(http: FlaskClient) -> None:
    answer = process(http, documents.scan("x"), parameters="--pages 2")

    assert "the document has only one page" in refused(answer, 1, "invalid_options")


def test_a_request_needs_exactly_one_file_and_the_parameters(http: FlaskClient) -> None:
    scan = documents.scan("x")

    refused(process(http), 2, "missing_file")
    refused(process(http, scan, scan), 2, "too_many_files")
    refused(process(http, scan, form={"languages": "eng"}), 1, "malformed_request")
    refused(process(http, scan, form={"ocrmypdf_parameters": ["", ""]}), 1, "malformed_request")
    refused(http.post("/process_ocr", data=b"%PDF-"), 1, "malformed_request")


def test_a_request_over_the_limit_of_waiting_requests_is_refused_before_anything_is_stored(
    http: FlaskClient,
) -> None:
    taken = []
    while events._slots.acquire(blocking=False):
        taken.append(True)
    try:
        refused(process(http, documents.scan("x")), 15, "too_many_waiting")
    finally:
        events._slots.release(len(taken))
    assert sum(lifecycle.counts().values()) == 0


def test_every_error_has_an_exit_code_of_ocrmypdf(http: FlaskClient) -> None:
    assert set(nextcloud._EXIT_CODES.values()) <= set(ExitCode)
    for kind in errors.by_code().values():
        assert any(group in nextcloud._EXIT_CODES for group in kind.__mro__)


# Responses


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
def test_text_and_document_are_sent_in_chunks(size: int) -> None:
    content = 'grün "𝔘" \\ \f\n'.encode() * 9
    pieces = [content[at : at + size] for at in range(0, len(content), size)]

    text = b"".join(nextcloud._json_escaped(pieces))
    document = b"".join(nextcloud._in_base64(pieces))

    assert json.loads(b'"' + text + b'"') == content.decode()
    assert base64.b64decode(document, validate=True) == content


# Waiting for the result


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, Request]]:
    """Returns the client end of a connection, and a request received at the other end."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield theirs, Request({"gunicorn.socket": ours})


def test_a_client_is_connected_until_it_closes_its_connection(
    connection: tuple[socket.socket, Request],
) -> None:
    theirs, request = connection
    assert not slow_clients.has_left(request)
    theirs.send(b"GET /a request that was sent too early")
    assert not slow_clients.has_left(request)

    theirs.close()

    assert slow_clients.has_left(request)
    assert not slow_clients.has_left(Request({}))


def test_the_job_of_a_disconnected_client_is_cancelled(
    connection: tuple[socket.socket, Request],
) -> None:
    theirs, request = connection
    job = lifecycle.read(submit(""))
    theirs.close()

    assert events.wait_or_cancel(job, request) is None
    assert lifecycle.read(job.id).state is State.CANCELLED


def test_a_stopping_server_reports_it_to_waiting_clients_and_cancels(
    connection: tuple[socket.socket, Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = lifecycle.read(submit(""))
    monkeypatch.setattr(slow_clients, "is_stopping", lambda: True)

    with pytest.raises(errors.ServerStopping):
        events.wait_or_cancel(job, connection[1])
    assert lifecycle.read(job.id).state is State.CANCELLED


def test_a_revoked_token_ends_the_waiting_and_not_the_job(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, connection: tuple[socket.socket, Request]
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0)
    monkeypatch.setattr(events, "_POLL_SECONDS", 0.01)
    token, _secret = tokens.create("nextcloud", {Scope.SUBMIT})
    job = lifecycle.read(submit(token.id))
    tokens.revoke(token.id)
    app = configure(dialects="nextcloud", access="tokens").application

    with app.test_request_context("/process_ocr"):
        authentication.g.caller = authentication.Caller(token, "127.0.0.1")
        with pytest.raises(errors.NotAuthenticated):
            events.wait_or_cancel(job, connection[1])
    assert lifecycle.read(job.id).state is State.QUEUED
