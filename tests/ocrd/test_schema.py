"""Responses match OCR-D's own OpenAPI document of its Web API, for valid and invalid requests.

Schemathesis generates requests from that document. Requests that should succeed use a fake
implementation (`behind.py`); all others use the whole service without workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from schemathesis.transport.serialization import serialize_binary

from tests.ocrd.behind import JOB, RUN, Behind
from tests.web.conftest import application

schema = schemathesis.openapi.from_path(Path(__file__).parent / "openapi.yml")

OPERATIONS = [result.ok() for result in schema.get_all_operations()]

#: Fields that can be invalid: any text is valid as a URL, and any bytes as a ZIP file.
FALLIBLE = [row for row in OPERATIONS if row.body and not row.path.startswith("/workspace")]

CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]

TEXT = "dummy -I OCR-D-IMG -O OCR-D-COPY"


@schemathesis.serializer("application/vnd.ocrd+zip")
def _as_it_is(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else serialize_binary(value)


@pytest.fixture
def app(service: object, monkeypatch: pytest.MonkeyPatch) -> Flask:
    made = application()
    serve = made.wsgi_app

    def local(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return serve({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    monkeypatch.setattr(made, "wsgi_app", local)
    monkeypatch.setattr(schema, "app", made)
    return made


def ask_often(
    operation: Any, mode: GenerationMode, app: Flask, prepare: Callable[[Case], None]
) -> set[int]:
    """Returns the status codes of the responses to many requests of this kind."""
    statuses = set()

    @settings(
        max_examples=10,
        phases=[Phase.generate],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        prepare(case)
        response = case.call(base_url="http://localhost/ocrd", app=app)
        statuses.add(response.status_code)
        check(case, response)

    ask()
    return statuses


def check(case: Case, response: Response) -> None:
    if response.status_code < 400:
        assert str(response.status_code) in case.operation.definition.raw["responses"]
        case.validate_response(response, checks=CHECKS)
    else:
        assert response.status_code < 500, response.text
        assert response.json()["detail"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_requests_for_existing_resources_succeed_as_described(
    operation: Any, app: Flask, behind: Behind
) -> None:
    with app.test_client() as http:
        known = {"workspace_id": "ws-1", "input_file_grps": ["A"]}
        assert http.post("/ocrd/processor/run/ocrd-dummy", json=known).status_code == 200
    mets = str(behind.workspace.mets)

    def prepare(case: Case) -> None:
        behind.texts = {"wf-0": TEXT.replace("COPY", "OTHER")}
        for name in case.path_parameters or {}:
            ids = {"executable": "ocrd-dummy", "workflow-id": "wf-0", "workspace-id": "ws-1"}
            job = RUN if "workflow" in operation.path else JOB
            case.path_parameters[name] = ids.get(name, job)
        if "mets_path" in (case.query or {}):
            case.query["mets_path"] = mets
            case.query.pop("workflow_id", None)
        if "run/{executable}" in operation.path:
            case.body = {**case.body, "path_to_mets": mets}
            case.body.pop("workspace_id", None)
        elif "workspace" in operation.path and operation.body:
            case.body = b"PK" + serialize_binary(case.body)
        elif operation.body:
            case.body = {"workflow": TEXT.encode()}

    found = ask_often(operation, GenerationMode.POSITIVE, app, prepare)

    assert any(status < 300 for status in found), found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_the_response_to_any_generated_request_is_as_described(operation: Any, app: Flask) -> None:
    ask_often(operation, GenerationMode.POSITIVE, app, lambda case: None)


@pytest.mark.parametrize("operation", FALLIBLE, ids=lambda operation: operation.label)
def test_an_invalid_request_is_refused_with_a_message(operation: Any, app: Flask) -> None:
    ask_often(operation, GenerationMode.NEGATIVE, app, lambda case: None)
