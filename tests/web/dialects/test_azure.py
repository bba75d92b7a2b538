"""The API of Azure Document Intelligence, with a real Redis and without a worker."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import errors
from ocr_tasks.formats.page import Page
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Job, Outcome, PageFailure, Scope, State
from ocr_tasks.security import tokens
from ocr_tasks.storage import layout
from tests import documents
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

ROOT = "/documentintelligence"
MODEL = f"{ROOT}/documentModels/prebuilt-read"
VERSION = "api-version=2024-11-30"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SCAN = documents.scan("scan")
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure(dialects="azure")


def analyze(
    http: FlaskClient, body: bytes | dict[str, Any] = SCAN, query: str = "", **more: Any
) -> TestResponse:
    address = f"{MODEL}:analyze?{VERSION}{query}"
    if isinstance(body, dict):
        return http.post(address, json=body, **more)
    headers = BYTES | more.pop("headers", {})
    return http.post(address, data=body, headers=headers, **more)


def encoded(content: bytes = SCAN) -> dict[str, Any]:
    return {"base64Source": base64.b64encode(content).decode()}


def refused(answer: TestResponse, status: int, *codes: str) -> dict[str, Any]:
    """Returns the error codes, from the outermost to that of this project."""
    assert answer.content_type == "application/json", answer.text
    error: dict[str, Any] = json.loads(answer.text)["error"]
    found, inner = [], error
    while inner:
        assert inner["message"]
        found.append(inner["code"])
        inner = inner.get("innererror", {})
    assert (answer.status_code, tuple(found)) == (status, codes), answer.text
    assert answer.headers["apim-request-id"]
    return error


def result_of(answer: TestResponse) -> str:
    """Returns the path of the result."""
    assert answer.status_code == 202, answer.text
    where = answer.headers["Operation-Location"]
    found = re.fullmatch(rf"http://localhost({MODEL}/analyzeResults/[0-9a-f-]{{36}}\?.*)", where)
    assert found, where
    return found[1]


def uploads(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "uploads").iterdir())


# Submit


def test_it_is_only_available_if_enabled(configure: Configure) -> None:
    answer = analyze(configure())

    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("body", [SCAN, encoded()], ids=["bytes", "base64"])
def test_a_document_becomes_a_job_like_any_other(http: FlaskClient, body: Any) -> None:
    answer = analyze(http, body, "&output=pdf&pages=1&locale=xx-XX&outputContentFormat=markdown")

    where = result_of(answer)
    assert (answer.headers["Retry-After"], answer.data) == ("1", b"")
    status = http.get(where)
    assert status.headers["Retry-After"] == "1"
    told = status.get_json()
    assert told.keys() == {"status", "createdDateTime", "lastUpdatedDateTime"}
    assert told["status"] == "notStarted"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["createdDateTime"])
    (job,) = http.get("/v1/jobs").get_json()["jobs"]
    assert job["id"] in where
    assert (job["input"]["bytes"], job["input"]["media_type"]) == (len(SCAN), "application/pdf")
    assert job["options"]["pages"] == "1"
    assert job["options"]["languages"] == ["eng"]
    assert job["options"]["rotate_pages"] is True


def test_the_same_document_again_is_another_job(configure: Configure) -> None:
    http = configure(dialects="azure", reuse_results="1")

    assert result_of(analyze(http)) != result_of(analyze(http))


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        ("application/pdf", SCAN),
        ("image/png", documents.encoded(documents.picture("png"), "PNG")),
        ("image/jpeg; charset=utf-8", documents.encoded(documents.picture("jpeg"), "JPEG")),
    ],
)
def test_a_body_may_declare_its_type(http: FlaskClient, media_type: str, content: bytes) -> None:
    result_of(analyze(http, content, headers={"Content-Type": media_type}))


def test_a_signed_document_is_accepted(http: FlaskClient) -> None:
    result_of(analyze(http, documents.signed()))


def test_the_url_of_the_result_is_correct_behind_a_proxy(configure: Configure) -> None:
    http = configure(dialects="azure", trusted_proxies="1", access="open", hosts="ocr.example")
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "Host": "ocr.example"}

    answer = analyze(http, headers=headers)

    where = answer.headers["Operation-Location"]
    assert where.startswith(f"https://ocr.example{MODEL}/analyzeResults/")
    # This is how the Python SDK finds the ID.
    found = re.match(r"[^:]+://[^/]+/documentintelligence/.+/([^?/]+)", where)
    assert found
    assert lifecycle.read(found[1])


# Refusals


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("", ("InvalidArgument", "ParameterMissing", "missing_parameter")),
        ("api-version=2023-07-31", ("InvalidArgument", "InvalidParameter", "invalid_parameter")),
        *(
            (f"{VERSION}&{more}", ("InvalidArgument", "InvalidParameter", code))
            for more, code in (
                ("pages=two", "invalid_options"),
                ("pages=3-1", "invalid_options"),
                ("pages=2", "invalid_options"),
                ("pages=0", "invalid_options"),
                ("stringIndexType=bytes", "invalid_parameter"),
                ("stringIndexType=textElements,utf16CodeUnit", "invalid_parameter"),
                ("outputContentFormat=html", "invalid_parameter"),
                ("output=figures", "invalid_parameter"),
                ("output=pdf,figures", "invalid_parameter"),
                ("features=barcodes", "invalid_parameter"),
                ("features=languages,queryFields", "invalid_parameter"),
            )
        ),
    ],
)
def test_an_invalid_parameter_is_refused(
    http: FlaskClient, tmp_path: Path, query: str, codes: tuple[str, ...]
) -> None:
    answer = http.post(f"{MODEL}:analyze?{query}", data=SCAN, headers=BYTES)

    refused(answer, 400, *codes)
    assert http.get("/v1/jobs").get_json()["jobs"] == []
    assert not (tmp_path / "data" / "uploads").exists() or uploads(tmp_path) == []


CONTENT = ("InvalidRequest", "InvalidContent")


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        (b"no document", (*CONTENT, "unsupported_type")),
        (b"%PDF-1.7\nbroken", (*CONTENT, "pdf_invalid")),
        (b"", (*CONTENT, "empty_file")),
        (documents.no_pages(), (*CONTENT, "no_pages")),
        (documents.encrypted("secret"), ("InvalidRequest", "UnsupportedContent", "pdf_encrypted")),
        (
            documents.huge_png(60_000, 60_000),
            ("InvalidRequest", "InvalidContentDimensions", "image_too_large"),
        ),
    ],
    ids=["text", "broken", "empty", "no-pages", "encrypted", "huge"],
)
def test_an_invalid_document_is_refused(
    http: FlaskClient, tmp_path: Path, content: bytes, codes: tuple[str, ...]
) -> None:
    refused(analyze(http, encoded(content)), 400, *codes)

    assert uploads(tmp_path) == []


@pytest.mark.parametrize("as_json", [False, True])
def test_a_document_that_is_too_large_is_refused(
    configure: Configure, tmp_path: Path, as_json: bool
) -> None:
    http = configure(dialects="azure", max_upload_bytes="5000")
    content = SCAN + b"\0" * 5000
    codes = ("InvalidRequest", "InvalidContentLength", "upload_too_large")

    refused(analyze(http, encoded(content) if as_json else content), 400, *codes)

    assert uploads(tmp_path) == []


PARAMETER = ("InvalidArgument", "InvalidParameter", "invalid_parameter")


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (b"", ("InvalidRequest", "malformed_request")),
        (b"{", ("InvalidRequest", "malformed_request")),
        (b"[]", ("InvalidRequest", "malformed_request")),
        (b"{}", ("InvalidArgument", "ParameterMissing", "missing_parameter")),
        (b'{"base64Source": null}', ("InvalidArgument", "ParameterMissing", "missing_parameter")),
        (b'{"base64Source": "no base64"}', PARAMETER),
        (b'{"base64Source": 7}', PARAMETER),
        (b'{"urlSource": 7}', PARAMETER),
        (b'{"urlSource": "https://a.example/b", "base64Source": "AAAA"}', PARAMETER),
        *(
            (
                b'{"urlSource": "%s"}' % address,
                ("InvalidRequest", "ContentSourceNotAccessible", "source_not_fetched"),
            )
            for address in (
                *(b"file:///etc/passwd", b"http://127.0.0.1/x", b"http://169.254.169.254/latest"),
                *(b"http://[::1]/", b"https://user:word@scans.example/", b"nonsense", b""),
            )
        ),
    ],
)
def test_an_invalid_body_is_refused(
    http: FlaskClient, tmp_path: Path, body: bytes, codes: tuple[str, ...]
) -> None:
    answer = http.post(f"{MODEL}:analyze?{VERSION}", data=body, content_type="application/json")

    refused(answer, 400, *codes)
    assert uploads(tmp_path) == []


@pytest.mark.parametrize(
    "media_type", ["text/html", "multipart/form-data; boundary=x", "application/xml", ""]
)
def test_a_body_of_another_type_is_refused(http: FlaskClient, media_type: str) -> None:
    answer = analyze(http, headers={"Content-Type": media_type})

    refused(answer, 415, "UnsupportedMediaType", "unsupported_media_type")


# Unknown resources


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "documentModels/prebuilt-layout:analyze"),
        ("GET", "documentModels/prebuilt-invoice"),
        ("GET", f"documentModels/my.model/analyzeResults/{UNKNOWN}"),
    ],
)
def test_an_unknown_model_is_not_found(http: FlaskClient, method: str, path: str) -> None:
    answer = http.open(f"{ROOT}/{path}?{VERSION}", method=method, data=SCAN, headers=BYTES)

    refused(answer, 404, "NotFound", "ModelNotFound", "model_not_found")


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense", "%2e%2e"])
@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("GET", "/pdf"), ("DELETE", "")])
def test_an_unknown_result_is_not_found(
    http: FlaskClient, job_id: str, method: str, more: str
) -> None:
    answer = http.open(f"{MODEL}/analyzeResults/{job_id}{more}?{VERSION}", method=method)

    refused(answer, 404, "NotFound", "OperationNotFound", "job_not_found")


def test_a_job_of_another_api_is_not_a_result_of_azure(http: FlaskClient) -> None:
    form = {"file": (documents.io.BytesIO(SCAN), "scan.pdf")}
    job = http.post("/v1/jobs", data=form).get_json()

    answer = http.get(f"{MODEL}/analyzeResults/{job['id']}?{VERSION}")

    refused(answer, 404, "NotFound", "OperationNotFound", "job_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", ""), ("GET", "/"), ("GET", "/nothing"), ("PUT", "/documentModels/a/b/c")),
        *(("GET", f"/documentModels/prebuilt-read/analyzeResults/{UNKNOWN}/figures/1.1"),),
        *(("POST", "/documentModels:build"), ("GET", "/documentClassifiers")),
    ],
)
def test_an_unknown_url_is_refused_in_azures_format(
    http: FlaskClient, method: str, path: str
) -> None:
    refused(http.open(ROOT + path, method=method), 404, "404", "not_found")


def test_a_wrong_method_is_refused_in_azures_format(http: FlaskClient) -> None:
    answer = http.put(f"{MODEL}/analyzeResults/{UNKNOWN}?{VERSION}")

    refused(answer, 405, "MethodNotAllowed", "method_not_allowed")
    assert sorted(answer.headers["Allow"].split(", ")) == ["DELETE", "GET"]


# Results


def test_the_pdf_is_only_available_if_it_was_requested(http: FlaskClient) -> None:
    where = result_of(analyze(http)).replace("?", "/pdf?")
    refused(http.get(where), 404, "NotFound", "OutputOptionNotFound", "artifact_not_found")

    where = result_of(analyze(http, query="&output=pdf")).replace("?", "/pdf?")
    refused(http.get(where), 409, "Conflict", "job_not_finished")


def end(state: State, result: dict[str, Any]) -> Job:
    """Ends the only job, like a worker."""
    (job,) = lifecycle.list_jobs().jobs
    lifecycle.backend().finish(job.id, "", state, result)
    return job


@pytest.mark.parametrize(
    ("error", "codes"),
    [
        (errors.WorkerLost(), ["InternalServerError", "worker_lost"]),
        (errors.InputUnsupported(), ["InvalidRequest", "UnsupportedContent", "input_unsupported"]),
    ],
)
def test_a_failed_job_reports_why(
    http: FlaskClient, error: errors.JobError, codes: list[str]
) -> None:
    where = result_of(analyze(http, query="&output=pdf"))
    end(State.FAILED, lifecycle.backend().prepare_exception(error))

    answer = http.get(where)

    told = answer.get_json()
    assert (answer.status_code, told["status"]) == (200, "failed")
    assert "Retry-After" not in answer.headers
    inner = told["error"]
    for code in codes:
        assert inner["code"] == code
        inner = inner.get("innererror")
    assert told["error"]["message"] == error.title
    refused(http.get(where.replace("?", "/pdf?")), 409, "Conflict", "job_without_result")


def test_only_the_requested_pages_are_in_the_result(http: FlaskClient) -> None:
    where = result_of(analyze(http, documents.scan("a", "b", "c"), "&pages=3,1"))
    failure = PageFailure(3, "page_timeout", "It took too long")
    job = end(State.SUCCEEDED, Outcome("run", (), 3, {}, {}, (), (failure,)).to_dict())
    for page in (Page.empty(number, 850, 1100, 100) for number in (1, 2, 3)):
        folder = layout.job(job.id).page(page.number)
        folder.mkdir(parents=True)
        (folder / "page.json").write_bytes(page.to_json())

    told = http.get(where).get_json()

    assert told["status"] == "succeeded"
    result = told["analyzeResult"]
    assert [(row["pageNumber"], row["width"]) for row in result["pages"]] == [(1, 8.5), (3, 8.5)]
    (warning,) = result["warnings"]
    assert warning == {"code": "page_timeout", "message": "It took too long", "target": "3"}


def test_an_expired_result_is_not_found(http: FlaskClient) -> None:
    where = result_of(analyze(http))
    end(State.SUCCEEDED, Outcome("run", (), 1, {}, {}).to_dict())

    refused(http.get(where), 404, "NotFound", "OperationNotFound", "result_gone")


def test_a_cancelled_job_is_reported_as_such(http: FlaskClient) -> None:
    where = result_of(analyze(http))
    (job,) = lifecycle.list_jobs().jobs
    lifecycle.cancel(job.id)

    told = http.get(where).get_json()

    assert told["status"] == "canceled"
    assert told["error"]["code"] == "OperationCanceled"
    assert told["error"]["innererror"]["code"] == "job_cancelled"


def test_a_deleted_result_is_not_found(http: FlaskClient) -> None:
    where = result_of(analyze(http))

    assert http.delete(where).status_code == 204

    refused(http.get(where), 404, "NotFound", "OperationNotFound", "job_deleted")
    assert http.delete(where).status_code == 204
    assert http.get("/v1/jobs").get_json()["jobs"] == []


@pytest.mark.parametrize("path", ["documentModels/prebuilt-read", "documentModels", "info"])
def test_models_and_limits_can_be_listed(http: FlaskClient, path: str) -> None:
    refused(
        http.get(f"{ROOT}/{path}"), 400, *PARAMETER[:1], "ParameterMissing", "missing_parameter"
    )

    told = http.get(f"{ROOT}/{path}?{VERSION}").get_json()

    model = told.get("value", [told])[0]
    if path == "info":
        assert told == {"customDocumentModels": {"count": 0, "limit": 0}}
    else:
        assert (model["modelId"], model["apiVersion"]) == ("prebuilt-read", "2024-11-30")


def test_the_openapi_document_describes_it(http: FlaskClient) -> None:
    paths = http.get("/openapi.json").get_json()["paths"]

    assert paths[f"{ROOT}/documentModels/{{model_id}}:analyze"]["post"]["x-scope"] == "submit"
    result = paths[f"{ROOT}/documentModels/{{model_id}}/analyzeResults/{{job_id}}"]
    assert (result["get"]["x-scope"], result["delete"]["x-scope"]) == ("read", "submit")


# Access control


def key(*granted: Scope, **more: Any) -> dict[str, str]:
    return {"Ocp-Apim-Subscription-Key": tokens.create("paperless", granted, **more)[1]}


@pytest.fixture
def closed(configure: Configure) -> FlaskClient:
    """A client of an application that requires tokens."""
    return configure(dialects="azure", access="tokens")


@pytest.mark.parametrize("sent", [{}, {"Ocp-Apim-Subscription-Key": "wrong"}])
def test_a_wrong_key_is_refused(closed: FlaskClient, sent: dict[str, str]) -> None:
    error = refused(analyze(closed, headers=sent), 401, "401", "not_authenticated")

    assert "Ocp-Apim-Subscription-Key" in error["innererror"]["message"]


def test_a_key_is_a_token_with_scopes(closed: FlaskClient) -> None:
    sends, reads = key(Scope.SUBMIT), key(Scope.READ)
    forbidden = ("Forbidden", "AuthorizationFailed", "scope_missing")
    refused(analyze(closed, headers=reads), 403, *forbidden)
    where = result_of(analyze(closed, headers=sends))

    refused(closed.get(where, headers=sends), 403, *forbidden)
    refused(closed.delete(where, headers=reads), 403, *forbidden)
    # A job of another owner.
    refused(closed.get(where, headers=reads), 404, "NotFound", "OperationNotFound", "job_not_found")
    assert closed.delete(where, headers=sends).status_code == 204


def test_a_key_has_rate_limits(closed: FlaskClient) -> None:
    sent = key(Scope.SUBMIT, limits={"submits_minute": 1})
    result_of(analyze(closed, headers=sent))

    answer = analyze(closed, headers=sent)

    refused(answer, 429, "429", "limit_reached")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
