"""A body that breaks off becomes no job: everything that was sent arrives, or nothing."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests import documents
from tests.bodies import FORM, cuts, form, refuses_parts_of, send
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

SCAN = documents.scan("one", "two")
JOB = form(
    ('name="file"; filename="a.pdf"', SCAN),
    ('name="title"', b"A title"),
    ('name="file"; filename="b.pdf"', SCAN),
)


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_breaks_off_leaves_nothing(http: FlaskClient, chunked: bool) -> None:
    refuses_parts_of(http, "/v1/jobs", FORM, JOB, chunked)


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
