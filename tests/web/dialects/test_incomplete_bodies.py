"""A body that breaks off becomes no job in the APIs of other services either."""

from __future__ import annotations

import base64
import json

import pytest
from flask.testing import FlaskClient

from tests import documents
from tests.bodies import FORM, form, refuses_parts_of
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

SCAN = documents.scan("one", "two")
AZURE = "/documentintelligence/documentModels/prebuilt-read:analyze?api-version=2024-11-30"
BASE64 = json.dumps({"base64Source": base64.b64encode(SCAN).decode()}).encode()
NEXTCLOUD = form(
    ('name="file"; filename="a.pdf"', SCAN), ('name="ocrmypdf_parameters"', b"--force-ocr -l deu")
)


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure(dialects="azure,nextcloud")


#: Each with and without a length. If a chunked file breaks off, gunicorn raises an error.
@pytest.mark.parametrize(
    ("address", "kind", "body", "chunked"),
    [
        (AZURE, "application/octet-stream", SCAN, False),
        (AZURE, "application/json", BASE64, False),
        (AZURE, "application/json", BASE64, True),
        ("/process_ocr", FORM, NEXTCLOUD, False),
        ("/process_ocr", FORM, NEXTCLOUD, True),
    ],
    ids=["azure", "azure-json", "azure-json-chunked", "nextcloud", "nextcloud-chunked"],
)
def test_a_body_that_breaks_off_leaves_nothing(
    http: FlaskClient, address: str, kind: str, body: bytes, chunked: bool
) -> None:
    refuses_parts_of(http, address, kind, body, chunked)
