"""A body that breaks off becomes no job: everything that was sent arrives, or nothing."""

from __future__ import annotations

import base64
import json

import pytest
from flask.testing import FlaskClient

from tests import documents
from tests.bodies import FORM, form, kept, send
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

SCAN = documents.scan("one", "two")
JOB = form(
    ('name="file"; filename="a.pdf"', SCAN),
    ('name="title"', b"A title"),
    ('name="file"; filename="b.pdf"', SCAN),
)
AZURE = "/documentintelligence/documentModels/prebuilt-read:analyze?api-version=2024-11-30"
BASE64 = json.dumps({"base64Source": base64.b64encode(SCAN).decode()}).encode()
NEXTCLOUD = form(
    ('name="file"; filename="a.pdf"', SCAN), ('name="ocrmypdf_parameters"', b"--force-ocr -l deu")
)
DEMO = form(('name="file"; filename="a.pdf"', SCAN))

#: Address, media type, body.
DOORS = {
    "jobs": ("/v1/jobs", FORM, JOB),
    "azure": (AZURE, "application/octet-stream", SCAN),
    "azure json": (AZURE, "application/json", BASE64),
    "nextcloud": ("/process_ocr", FORM, NEXTCLOUD),
}


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure(dialects="azure,nextcloud,demo")


def cuts(body: bytes) -> list[int]:
    """Returns lengths between nothing and the last byte that is needed."""
    return [0, 1, len(body) // 4, len(body) // 2, len(body) * 4 // 5, len(body) - 5]


#: Each with and without a length. If a chunked file breaks off, gunicorn raises an error.
CASES = [
    (door, chunked)
    for door in DOORS
    for chunked in (False, True)
    if (door, chunked) != ("azure", True)
]


@pytest.mark.parametrize(("door", "chunked"), CASES)
def test_a_body_that_breaks_off_leaves_nothing(http: FlaskClient, door: str, chunked: bool) -> None:
    address, kind, body = DOORS[door]
    for length in cuts(body):
        announced = None if chunked else len(body)
        answer = send(http, "POST", address, kind, body[:length], announced)

        assert answer.status_code in (400, 500), (length, answer.text)  # 500: Nextcloud's errors
        assert "malformed_request" in answer.text or "missing_file" in answer.text, answer.text
        assert kept() == []
    assert http.get("/v1/jobs").get_json()["jobs"] == []


def test_the_key_of_a_request_that_broke_off_can_be_used_again(http: FlaskClient) -> None:
    for length in cuts(JOB):
        sent = send(http, "POST", "/v1/jobs", FORM, JOB[:length], len(JOB), Idempotency_Key="k-1")
        assert sent.status_code == 400

    answer = send(http, "POST", "/v1/jobs", FORM, JOB, len(JOB), Idempotency_Key="k-1")

    job = answer.get_json()
    assert answer.status_code == 202, answer.text
    assert (job["input"]["files"], job["options"]["title"]) == (2, "A title")


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Grüße.pdf".encode("cp1252"), "Grüße.pdf"),
        ("請求書.pdf".encode("cp932"), "請求書.pdf"),
        ("Größe.pdf".encode(), "Größe.pdf"),
        (rb"C:\Users\me\scan.pdf", "scan.pdf"),
    ],
)
def test_file_names_in_other_encodings(http: FlaskClient, sent: bytes, name: str) -> None:
    body = form(('name="file"; filename="NAME"', SCAN), ('name="title"', b"T"))
    body = body.replace(b"NAME", sent)

    answer = send(http, "POST", "/v1/jobs", FORM, body, len(body))

    job = answer.get_json()
    assert answer.status_code == 202, answer.text
    assert (job["input"]["name"], job["options"]["title"]) == (name, "T")
