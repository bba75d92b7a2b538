"""OCR-D's Web API as its clients use it, with a fake implementation (`behind.py`)."""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import errors
from ocr_tasks.model import Scope
from ocr_tasks.ocrd import processing, workspaces
from ocr_tasks.ocrd.model import ProcessingState
from ocr_tasks.security import tokens
from ocr_tasks.storage import layout
from tests import bodies
from tests.bodies import FORM, form, kept
from tests.ocrd.behind import JOB, RECEIPT, RUN, TOOL, Behind
from tests.web.access.test_authentication import refused
from tests.web.conftest import Configure
from web.ocrd.extension import extension

pytestmark = pytest.mark.usefixtures("service")

#: What OCR-D's client sends with every request.
CLIENT = {"Accept": "application/json; charset=utf-8"}
TEXT = "dummy -I OCR-D-IMG -O OCR-D-COPY\n"
ZIP = "application/vnd.ocrd+zip"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def http(behind: Behind, configure: Configure) -> FlaskClient:
    return configure()


def run(http: FlaskClient, behind: Behind, **changed: Any) -> TestResponse:
    body = {"path_to_mets": str(behind.workspace.mets), "input_file_grps": ["OCR-D-IMG"]}
    asked = {name: value for name, value in {**body, **changed}.items() if value != "left out"}
    return http.post("/ocrd/processor/run/ocrd-dummy", json=asked, headers=CLIENT)


def workflow(text: str | bytes = TEXT) -> dict[str, Any]:
    content = text.encode() if isinstance(text, str) else text
    return {"data": Form("workflow", content)}


@dataclass(frozen=True)
class Form:
    """A form with a file, which can be sent more than once."""

    field: str
    content: bytes


def send(http: FlaskClient, method: str, address: str, **sent: Any) -> TestResponse:
    form = sent.get("data")
    if isinstance(form, Form):
        head = f'Content-Disposition: form-data; name="{form.field}"; filename="tmpabcd"'
        sent["data"] = b"--X\r\n%s\r\n\r\n%s\r\n--X--\r\n" % (head.encode(), form.content)
        sent["content_type"] = "multipart/form-data; boundary=X"
    return http.open(address, method=method, **sent)


def uploads(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "uploads").iterdir())


# Description of the service


@pytest.mark.parametrize(
    "address", ["/ocrd", "/ocrd/", "/ocrd//", "/ocrd/processor", "/ocrd//processor/"]
)
def test_slashes_are_ignored(http: FlaskClient, address: str) -> None:
    answer = http.get(address, headers=CLIENT)

    assert answer.status_code == 200
    if "processor" in address:
        assert answer.json == ["ocrd-dummy"]
    else:
        assert answer.json["message"].startswith("The home page of")
        assert set(answer.json) == {"message", "time"}


def test_elsewhere_slashes_are_significant(http: FlaskClient) -> None:
    assert http.get("/v1//jobs").status_code == 308


def test_unknown_properties_of_the_hosts_are_omitted(http: FlaskClient) -> None:
    assert http.get("/ocrd/discovery").json == {"ram": 8_000_000_000, "cpu_cores": 2}


def test_a_processor_is_described_by_its_ocrd_tool_json(http: FlaskClient) -> None:
    assert http.get("/ocrd/processor/info/ocrd-dummy").json == TOOL
    refused(http.get("/ocrd/processor/info/ocrd-none"), 404, "processor_not_found")


# Processor jobs


def test_the_response_to_a_run_contains_only_the_fields_that_are_set(
    http: FlaskClient, behind: Behind
) -> None:
    answer = run(http, behind, output_file_grps=["OCR-D-COPY"], description="a request")

    assert answer.status_code == 200
    assert answer.json == {
        "job_id": JOB,
        "processor_name": "ocrd-dummy",
        "state": "QUEUED",
        "path_to_mets": str(behind.workspace.mets),
        "workspace_id": "ws-1",
        "input_file_grps": ["OCR-D-IMG"],
        "output_file_grps": ["OCR-D-COPY"],
    }
    assert http.get(f"/ocrd/processor/job/{JOB}").json == answer.json


def test_a_run_is_started_with_all_its_parameters(http: FlaskClient, behind: Behind) -> None:
    run(
        http,
        behind,
        processor_name="ocrd-other",
        agent_type="server",
        something=1,
        parameters={"a": 1},
        page_id="P1..P3",
        depends_on=[UNKNOWN],
        result_queue_name="mine",
        callback_url="https://example.org/",
    )

    asked = behind.jobs[JOB].run
    assert (asked.processor, asked.parameters, asked.page_id) == ("ocrd-dummy", {"a": 1}, "P1..P3")
    assert asked.depends_on == (UNKNOWN,)
    assert (asked.result_queue_name, asked.callback_url) == ("mine", "https://example.org/")


def test_null_is_like_a_missing_field(http: FlaskClient, behind: Behind) -> None:
    names = ("parameters", "output_file_grps", "workspace_id", "page_id", "depends_on", "job_id")

    answer = run(http, behind, **dict.fromkeys(names))

    assert answer.status_code == 200
    assert behind.jobs[JOB].run.parameters == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"input_file_grps": "left out"},
        {"input_file_grps": None},
        {"input_file_grps": "OCR-D-IMG"},
        {"input_file_grps": [1]},
        {"parameters": []},
        {"page_id": 3},
        {"depends_on": "x"},
    ],
    ids=str,
)
def test_an_invalid_body_is_a_422(
    http: FlaskClient, behind: Behind, changed: dict[str, Any]
) -> None:
    problem = refused(run(http, behind, **changed), 422, "malformed_request")

    assert next(iter(changed)) in problem["detail"]
    assert problem["status"] == 422


@pytest.mark.parametrize(
    "changed",
    [
        {"workspace_id": "ws-1"},
        {"path_to_mets": "left out"},
        {"path_to_mets": "", "workspace_id": ""},
        {"job_id": JOB},
    ],
    ids=str,
)
def test_a_run_names_its_workspace_once_and_no_job(
    http: FlaskClient, behind: Behind, changed: dict[str, Any]
) -> None:
    refused(run(http, behind, **changed), 422, "processing_invalid")
    assert not behind.jobs


def test_invalid_json_is_a_422(http: FlaskClient) -> None:
    for body in (b"{", b"", b"[" * 50_000, b'"x"'):
        sent = http.post(
            "/ocrd/processor/run/ocrd-dummy", data=body, content_type="application/json"
        )
        refused(sent, 422, "malformed_request")


def test_an_unknown_workspace_processor_or_job_is_a_404(http: FlaskClient, behind: Behind) -> None:
    refused(run(http, behind, path_to_mets="/etc/passwd"), 404, "workspace_not_found")
    other = {"workspace_id": "x", "path_to_mets": None}
    refused(run(http, behind, **other), 404, "workspace_not_found")
    known = {"workspace_id": "ws-1", "input_file_grps": ["A"]}
    answer = http.post("/ocrd/processor/run/ocrd-none", json=known)
    refused(answer, 404, "processor_not_found")
    for method, what in (("GET", "job"), ("DELETE", "job"), ("GET", "log")):
        answer = http.open(f"/ocrd/processor/{what}/{UNKNOWN}", method=method, headers=CLIENT)
        assert refused(answer, 404, "processing_not_found")["detail"]


def test_an_error_of_the_implementation_is_returned(
    http: FlaskClient, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any) -> Any:
        raise errors.CallbackRefused("10.0.0.1 is not on the internet")

    monkeypatch.setattr(processing, "submit", refuse)

    refused(run(http, behind, callback_url="http://10.0.0.1/"), 422, "callback_refused")


def test_a_job_can_be_cancelled(http: FlaskClient, behind: Behind) -> None:
    run(http, behind)

    assert http.delete(f"/ocrd/processor/job/{JOB}").json["state"] == "CANCELLED"


def test_a_log_is_empty_until_the_job_begins(http: FlaskClient, behind: Behind) -> None:
    run(http, behind)
    answers = [http.get(f"/ocrd/processor/log/{JOB}", headers=CLIENT)]
    behind.log.write_text("12:00:00.000 INFO ocrd - begun ä\n")
    answers.append(http.get(f"/ocrd/processor/log/{JOB}", headers=CLIENT))

    assert [answer.text for answer in answers] == ["", "12:00:00.000 INFO ocrd - begun ä\n"]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.content_type == "text/plain; charset=utf-8"
        assert answer.headers["Content-Disposition"] == f"attachment; filename={JOB}.log"
        answer.close()


def test_a_job_without_a_worker_for_its_processor_says_so(
    http: FlaskClient, behind: Behind
) -> None:
    behind.offered.clear()

    for found in (run(http, behind).json, http.get(f"/ocrd/processor/job/{JOB}").json):
        assert found["state"] == "QUEUED"
        assert found["waiting"] == "No running worker offers ocrd-dummy"


def test_a_job_that_has_started_has_the_path_of_its_log(http: FlaskClient, behind: Behind) -> None:
    assert "log_file_path" not in run(http, behind).json
    behind.jobs[JOB] = dataclasses.replace(
        behind.jobs[JOB], state=ProcessingState.RUNNING, started_at=1.0
    )

    found = http.get(f"/ocrd/processor/job/{JOB}").json

    assert found["log_file_path"] == str(layout.job(JOB).log)


def test_a_failed_job_reports_why(
    http: FlaskClient, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(http, behind)
    behind.jobs[JOB] = dataclasses.replace(
        behind.jobs[JOB], state=ProcessingState.FAILED, error_code="processor_failed", error="no"
    )

    found = http.get(f"/ocrd/processor/job/{JOB}").json
    assert (found["state"], found["error_code"], found["error"]) == (
        "FAILED",
        "processor_failed",
        "no",
    )


def test_messages_of_a_queue_can_only_be_fetched_with_get(
    http: FlaskClient, behind: Behind
) -> None:
    answer = http.get("/ocrd/result_queue/mine?wait=3")

    row = {"job_id": JOB, "state": "SUCCESS", "queue": "mine", "waited": 3.0}
    assert answer.json == [row | {"receipt": RECEIPT}]
    assert http.head("/ocrd/result_queue/mine").status_code == 405
    other = {"Sec-Fetch-Site": "cross-site"}
    refused(http.get("/ocrd/result_queue/mine", headers=other), 403, "cross_site")
    refused(http.get("/ocrd/result_queue/mine?wait=-1"), 422, "malformed_request")
    assert behind.seen == [""]


def test_messages_are_acknowledged_with_delete_or_with_the_next_request(
    http: FlaskClient, behind: Behind
) -> None:
    assert http.delete(f"/ocrd/result_queue/a/{RECEIPT}").json == {"acknowledged": 1}
    assert http.get(f"/ocrd/result_queue/b?receipt={RECEIPT}").json == []

    assert behind.acknowledged == ["a", "b"]


# Workflows


@pytest.mark.parametrize(
    "sent",
    [
        workflow(),
        {"data": {"workflow": TEXT}},
        {"data": {"workflow": TEXT}, "content_type": "multipart/form-data"},
        {"data": TEXT, "content_type": "text/plain"},
        {"data": TEXT.encode("utf-8-sig"), "content_type": "text/plain; charset=utf-8"},
        {"data": TEXT, "content_type": "text/vnd.ocrd.workflow"},
    ],
    ids=["file", "field", "multipart field", "text", "text with a mark", "older type"],
)
def test_a_workflow_is_sent_as_a_file_a_field_or_text(
    http: FlaskClient, sent: dict[str, Any]
) -> None:
    answer = send(http, "POST", "/ocrd/workflow", headers=CLIENT, **sent)

    assert (answer.status_code, answer.json) == (200, {"workflow_id": "wf-0"})
    text = http.get("/ocrd/workflow/wf-0", headers=CLIENT)
    assert (text.text, text.content_type) == (TEXT, "text/plain; charset=utf-8")


def test_the_same_workflow_again_is_a_409(http: FlaskClient) -> None:
    send(http, "POST", "/ocrd/workflow", **workflow())

    problem = refused(send(http, "POST", "/ocrd/workflow", **workflow()), 409, "workflow_exists")
    assert problem["workflow_id"] == "wf-0"


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"data": {"other": TEXT}},
        {"json": {"workflow": TEXT}},
        workflow(b"dummy -I \xff"),
        workflow(TEXT * 3000),
        {"data": TEXT * 2000, "content_type": "text/plain"},
        {"data": TEXT * 9000, "content_type": "text/plain"},
        workflow("dummy"),
        {"data": b"--x", "content_type": "multipart/form-data"},
    ],
    ids=["none", "other field", "json", "latin", "long", "long text", "longer", "bad", "torn"],
)
def test_an_invalid_workflow_is_a_422(http: FlaskClient, sent: dict[str, Any]) -> None:
    refused(send(http, "POST", "/ocrd/workflow", **sent), 422, "workflow_invalid")


def test_an_existing_workflow_can_be_replaced(http: FlaskClient, behind: Behind) -> None:
    refused(send(http, "PUT", "/ocrd/workflow/wf-0", **workflow()), 404, "workflow_not_found")
    send(http, "POST", "/ocrd/workflow", **workflow())

    answer = send(http, "PUT", "/ocrd/workflow/wf-0", **workflow("dummy -I A -O B"))

    assert (answer.status_code, answer.json) == (200, "wf-0")
    assert behind.texts == {"wf-0": "dummy -I A -O B"}
    refused(send(http, "PUT", "/ocrd/workflow/wf-0", **workflow("x")), 422, "workflow_invalid")


def test_a_workflow_runs_with_the_clients_parameters(http: FlaskClient, behind: Behind) -> None:
    mets = str(behind.workspace.mets)

    answer = send(
        http,
        "POST",
        f"/ocrd/workflow/run?mets_path={mets}&page_wise=False",
        headers=CLIENT,
        **workflow(),
    )

    assert answer.status_code == 200
    assert answer.json == {
        "job_id": RUN,
        "page_id": "",
        "processing_job_ids": {"": [JOB]},
        "path_to_mets": mets,
        "workspace_id": "ws-1",
    }
    assert behind.runs == [(TEXT, behind.workspace, "", False, "", "")]


def test_a_stored_workflow_runs_per_page_and_precedes_the_body(
    http: FlaskClient, behind: Behind
) -> None:
    send(http, "POST", "/ocrd/workflow", **workflow())

    answer = send(
        http,
        "POST",
        "/ocrd/workflow/run",
        query_string={
            "workspace_id": "ws-1",
            "workflow_id": "wf-0",
            "page_wise": "True",
            "page_id": "P1",
            "workflow_callback_url": "https://example.org/",
            "agent_type": "worker",
        },
        **workflow("something else"),
    )

    assert answer.json["page_wise"] is True
    assert behind.runs == [(TEXT, behind.workspace, "P1", True, "https://example.org/", "")]


@pytest.mark.parametrize(
    ("query", "sent", "status", "code"),
    [
        ({}, workflow(), 422, "processing_invalid"),
        ({"mets_path": "x", "workspace_id": "ws-1"}, workflow(), 422, "processing_invalid"),
        ({"workspace_id": "ws-1"}, {}, 422, "workflow_invalid"),
        ({"workspace_id": "ws-1", "page_wise": "maybe"}, workflow(), 422, "malformed_request"),
        ({"mets_path": "/etc/passwd"}, workflow(), 404, "workspace_not_found"),
        ({"workspace_id": "ws-1", "workflow_id": "x"}, {}, 404, "workflow_not_found"),
        ({"workspace_id": "ws-0"}, workflow(), 410, "workspace_deleted"),
        ({"workspace_id": "ws-1"}, workflow("missing -I A"), 406, "processor_unavailable"),
    ],
    ids=str,
)
def test_an_invalid_run_of_a_workflow_is_refused(
    http: FlaskClient, query: dict[str, str], sent: dict[str, Any], status: int, code: str
) -> None:
    answer = send(http, "POST", "/ocrd/workflow/run", query_string=query, **sent)

    assert refused(answer, status, code)["status"] == status


def test_a_workflow_run_is_described_in_detail_or_by_its_state(http: FlaskClient) -> None:
    assert http.get(f"/ocrd/workflow/job/{RUN}").json == {"ocrd-dummy": {"SUCCESS": 3}}
    assert http.get(f"/ocrd/workflow/job-simple/{RUN}").json == {"state": "RUNNING"}
    assert http.delete(f"/ocrd/workflow/job/{RUN}").json["job_id"] == RUN
    for method, address in (
        ("GET", "job"),
        ("GET", "job-simple"),
        ("DELETE", "job"),
    ):
        answer = http.open(f"/ocrd/workflow/{address}/{UNKNOWN}", method=method)
        refused(answer, 404, "processing_not_found")


# Workspaces


@pytest.mark.parametrize(
    "sent",
    [
        {"data": b"PK123", "content_type": ZIP},
        {"data": b"PK123", "content_type": "application/zip"},
        {"data": b"PK123", "content_type": "application/octet-stream"},
        {"data": b"PK123"},
        {"data": Form("workspace", b"PK123")},
    ],
    ids=["ocrd", "zip", "bytes", "no type", "form"],
)
def test_a_workspace_is_sent_as_a_body_or_in_a_form(
    http: FlaskClient, behind: Behind, tmp_path: Path, sent: dict[str, Any]
) -> None:
    answer = send(http, "POST", "/ocrd/workspace", headers=CLIENT, **sent)

    assert answer.status_code == 201
    assert answer.json == {
        "@id": "http://localhost/ocrd/workspace/ws-1",
        "resource_id": "ws-1",
        "resource_url": "http://localhost/ocrd/workspace/ws-1",
        "workspace_id": "ws-1",
        "path_to_mets": str(behind.workspace.mets),
    }
    assert behind.received == [(b"PK123", "", None)]
    assert uploads(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "kind", "body"),
    [
        ("/ocrd/workspace", ZIP, b"PK123456"),
        ("/ocrd/workspace", FORM, form(('name="workspace"; filename="a"', b"PK123456"))),
        ("/ocrd/workflow", "text/plain", b"dummy -I A -O B\ndummy -I B -O C\n"),
        ("/ocrd/workflow", FORM, form(('name="workflow"; filename="a"', b"dummy -I A -O B\n"))),
    ],
)
def test_a_body_that_breaks_off_leaves_nothing(
    http: FlaskClient, behind: Behind, address: str, kind: str, body: bytes
) -> None:
    for length in (1, len(body) // 2, len(body) - 3):
        answer = bodies.send(http, "POST", address, kind, body[:length], len(body))

        assert answer.status_code in (400, 422), answer.text
        assert (behind.received, kept()) == ([], [])
    assert bodies.send(http, "POST", address, kind, body, len(body)).status_code in (200, 201)


def test_a_workspace_is_replaced_or_created_with_an_id(http: FlaskClient, behind: Behind) -> None:
    answer = http.put("/ocrd/workspace/mine", data=b"PK", content_type=ZIP)

    assert (answer.status_code, answer.json["workspace_id"]) == (200, "mine")
    form = Form("workspace", b"PK2")
    assert send(http, "PUT", "/ocrd/workspace/mine", data=form).status_code == 200
    assert behind.received == [(b"PK", "", "mine"), (b"PK2", "", "mine")]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"data": b"no", "content_type": ZIP}, "workspace_invalid"),
        ({"data": b"", "content_type": ZIP}, "workspace_invalid"),
        ({"data": b"x", "content_type": "text/plain"}, "workspace_invalid"),
        ({"data": Form("file", b"PK")}, "malformed_request"),
    ],
    ids=["no zip", "empty", "other type", "other field"],
)
def test_an_invalid_workspace_is_a_400(
    http: FlaskClient, tmp_path: Path, method: str, sent: dict[str, Any], code: str
) -> None:
    address = "/ocrd/workspace" if method == "POST" else "/ocrd/workspace/mine"

    refused(send(http, method, address, **sent), 400, code)

    assert not (tmp_path / "data" / "uploads").exists() or uploads(tmp_path) == []


def test_workspaces_have_their_own_size_limit(behind: Behind, configure: Configure) -> None:
    http = configure(ocrd_max_bytes="3000000", max_upload_bytes="1024")
    fits = b"PK" + bytes(2_999_998)

    assert http.post("/ocrd/workspace", data=fits, content_type=ZIP).status_code == 201
    form = Form("workspace", fits)
    assert send(http, "POST", "/ocrd/workspace", data=form).status_code == 201
    for size in (3_000_001, 9_000_000):
        form = Form("workspace", bytes(size))
        for sent in ({"data": bytes(size), "content_type": ZIP}, {"data": form}):
            problem = refused(
                send(http, "POST", "/ocrd/workspace", **sent), 413, "upload_too_large"
            )
            assert "3000000" in problem["detail"]
            assert "OCR_OCRD_MAX_BYTES" in problem["advice"]


def test_a_truncated_body_is_not_a_workspace(http: FlaskClient, behind: Behind) -> None:
    answer = http.post(
        "/ocrd/workspace",
        data=b"PK",
        content_type=ZIP,
        environ_overrides={"CONTENT_LENGTH": "100"},
    )

    refused(answer, 400, "malformed_request")
    assert behind.received == []


METS = "https://example.org/mets.xml"


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("workspace", {"json": {"mets_url": METS, "preserve_file_grps": ["A", "B"]}}),
        ("workspace", {"json": {"mets_url": METS, "preserve_file_grps": "A, B"}}),
        ("workspace", {"data": {"mets_url": METS, "preserve_file_grps": "A,B"}}),
        (
            "workspace",
            {
                "data": {"mets_url": METS, "preserve_file_grps": "A,B"},
                "content_type": "multipart/form-data",
            },
        ),
        ("import_external_workspace", {"query_string": f"mets_url={METS}&preserve_file_grps=A,B"}),
    ],
    ids=["json", "json with a text", "form", "multipart", "import"],
)
def test_a_workspace_is_fetched_from_the_url_of_its_mets_file(
    http: FlaskClient, behind: Behind, address: str, sent: dict[str, Any]
) -> None:
    answer = send(http, "POST", f"/ocrd/{address}", **sent)

    assert (answer.status_code, answer.json["workspace_id"]) == (201, "ws-1")
    assert behind.fetched == [(METS, "", ["A", "B"], "mets.xml")]


def test_all_file_groups_are_fetched_unless_some_are_named(
    http: FlaskClient, behind: Behind
) -> None:
    http.post("/ocrd/workspace", json={"mets_url": METS, "mets_basename": "m.xml"})

    assert behind.fetched == [(METS, "", None, "m.xml")]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"json": {}}, 400, "malformed_request"),
        ({"json": {"mets_url": 3}}, 400, "malformed_request"),
        ({"json": []}, 400, "malformed_request"),
        ({"data": "{", "content_type": "application/json"}, 400, "workspace_invalid"),
        ({"data": {"x": "y"}}, 400, "malformed_request"),
        ({"json": {"mets_url": METS, "preserve_file_grps": "NONE"}}, 400, "file_group_unknown"),
        ({"json": {"mets_url": "file:///etc/passwd"}}, 400, "mets_not_fetched"),
    ],
    ids=["nothing", "number", "list", "torn", "form", "group", "file"],
)
def test_an_invalid_url_is_refused(
    http: FlaskClient, sent: dict[str, Any], status: int, code: str
) -> None:
    refused(send(http, "POST", "/ocrd/workspace", **sent), status, code)


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        (None, False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (ZIP, False),
        (f"application/json;q=0.5, {ZIP}", False),
        (f"application/json, {ZIP}", False),
        ("application/json;q=0", False),
        ("image/png", False),
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/json, text/plain, */*", True),
        (f"application/json, {ZIP};q=0.5", True),
    ],
    ids=str,
)
def test_a_workspace_is_a_zip_file_unless_json_is_requested(
    http: FlaskClient, accept: str | None, json_wanted: bool
) -> None:
    answer = http.get("/ocrd/workspace/ws-1", headers={"Accept": accept} if accept else {})

    assert answer.status_code == 200
    assert "Accept" in answer.headers["Vary"]
    if json_wanted:
        assert answer.json["workspace_id"] == "ws-1"
    else:
        assert (answer.content_type, answer.data) == (ZIP, b"PKws-1")
        name = answer.headers["Content-Disposition"]
        assert name == "attachment; filename=ws-1.ocrd.zip"


def test_an_error_before_a_zip_file_is_sent_is_reported(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(_workspace: Any) -> Any:
        raise errors.StorageUnavailable("gone")
        yield b""

    monkeypatch.setattr(workspaces, "pack", pack)

    refused(http.get("/ocrd/workspace/ws-1"), 503, "storage_unavailable")


def test_workspaces_are_listed_and_deleted(http: FlaskClient) -> None:
    (row,) = http.get("/ocrd/workspace").json
    assert row["@id"].endswith("/ocrd/workspace/ws-1")
    assert http.delete("/ocrd/workspace/ws-1").json == row
    for method in ("GET", "DELETE"):
        refused(http.open("/ocrd/workspace/ws-0", method=method), 410, "workspace_deleted")
        refused(http.open("/ocrd/workspace/none", method=method), 404, "workspace_not_found")


# Version 0.0.1


def test_urls_of_the_older_version_still_work(http: FlaskClient, behind: Behind) -> None:
    assert http.get("/ocrd/processor/ocrd-dummy").json == TOOL
    made = http.post(
        "/ocrd/processor/ocrd-dummy",
        json={
            "workspace": {"@id": "http://localhost/ocrd/workspace/ws-1"},
            "input_file_grps": "A, B",
            "output_file_grps": "C",
        },
    )
    assert made.json["input_file_grps"] == ["A", "B"]
    assert made.json["output_file_grps"] == ["C"]
    assert http.get(f"/ocrd/processor/ocrd-dummy/{JOB}").json == made.json
    assert http.get(f"/ocrd/processor/ocrd-dummy/{JOB}/log").text == ""
    send(http, "POST", "/ocrd/workflow", **workflow())
    asked = {"workspace_id": "ws-1", "workflow_parameters": {}}
    assert http.post("/ocrd/workflow/wf-0", json=asked).json["job_id"] == RUN
    assert http.get(f"/ocrd/workflow/wf-0/{RUN}").json == {"ocrd-dummy": {"SUCCESS": 3}}
    asked["workflow_parameters"] = {"dpi": 300}
    http.post("/ocrd/workflow/wf-0", json=asked)
    assert behind.parameters == {"dpi": 300}


# Access control


@pytest.fixture
def guarded(behind: Behind, configure: Configure) -> FlaskClient:
    return configure(access="tokens")


def basic(text: str, user: str = "anybody") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{text}'.encode()).decode()}"}


def test_a_token_may_be_sent_as_a_password(guarded: FlaskClient, behind: Behind) -> None:
    token, text = tokens.create("client", {Scope.OCRD})

    for headers in (basic(text), basic(text, ""), {"Authorization": f"Bearer {text}"}):
        assert guarded.get("/ocrd/processor", headers=headers).status_code == 200
    run_body = {"workspace_id": "ws-1", "input_file_grps": ["A"]}
    guarded.post("/ocrd/processor/run/ocrd-dummy", json=run_body, headers=basic(text))
    assert behind.jobs[JOB].owner == token.id
    assert behind.seen == [token.id]
    for address in ("/v1/jobs", "/v1/session", "/metrics"):
        refused(guarded.get(address, headers=basic(text)), 401, "not_authenticated")


def test_an_administrator_sees_all_workspaces(guarded: FlaskClient, behind: Behind) -> None:
    _token, text = tokens.create("admin", {Scope.ADMIN})

    guarded.get("/ocrd/workspace/ws-1", headers=basic(text))

    assert behind.seen == [None]


@pytest.mark.parametrize(
    "value", ["Basic", "Basic x", "Basic eDp5", "Basic eA==", "Basic \xff", "Digest x"], ids=ascii
)
def test_a_wrong_password_is_refused_and_a_browser_may_ask_for_one(
    guarded: FlaskClient, value: str
) -> None:
    answer = guarded.get("/ocrd/processor", headers={"Authorization": value})

    refused(answer, 401, "not_authenticated")
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="OCR Tasks"',
        'Basic realm="OCR Tasks", charset="UTF-8"',
    ]


def test_a_token_without_the_scope_ocrd_is_refused(guarded: FlaskClient) -> None:
    _token, text = tokens.create("reader", {Scope.READ, Scope.SUBMIT})

    refused(guarded.get("/ocrd/processor", headers=basic(text)), 403, "scope_missing")


@pytest.mark.parametrize(
    "whence",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}],
    ids=["told", "origin"],
)
@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "/ocrd/workspace/ws-1"),
        ("GET", "/ocrd/result_queue/mine"),
        ("DELETE", f"/ocrd/result_queue/mine/{RECEIPT}"),
        ("POST", "/ocrd/workflow"),
        ("PUT", "/ocrd/workspace/ws-1"),
        ("DELETE", "/ocrd/workspace/ws-1"),
        ("DELETE", f"/ocrd/processor/job/{JOB}"),
    ],
    ids=str,
)
def test_another_site_cannot_use_the_password_that_a_browser_stores(
    guarded: FlaskClient, behind: Behind, method: str, address: str, whence: dict[str, str]
) -> None:
    _token, text = tokens.create("client", {Scope.OCRD})

    answer = guarded.open(address, method=method, headers={**basic(text), **whence})

    refused(answer, 403, "cross_site")
    assert behind.seen == []


def test_requests_are_counted(behind: Behind, configure: Configure) -> None:
    http = configure(limit_submits_minute="2")

    assert [run(http, behind).status_code for _ in range(3)] == [200, 200, 429]


def test_a_token_may_be_sent_as_a_password_to_every_blueprint() -> None:
    names = {blueprint.name for blueprint in extension.blueprints()}
    assert names == extension.basic_auth


# The OpenAPI document


def test_the_openapi_document_has_the_paths_and_their_scopes(guarded: FlaskClient) -> None:
    spec = json.loads(guarded.get("/openapi.json").text)

    show = spec["paths"]["/ocrd/workspace/{workspace_id}"]["get"]
    assert show["security"] == [{"token": ["ocrd"]}, {"password": ["ocrd"]}, {"cookie": ["ocrd"]}]
    assert show["tags"] == ["OCR-D workspaces"]
    older = spec["paths"]["/ocrd/processor/{executable}"]
    assert (older["get"]["deprecated"], older["post"]["deprecated"]) == (True, True)
    body = spec["paths"]["/ocrd/workspace"]["post"]["requestBody"]["content"]
    assert set(body) == {ZIP, "multipart/form-data", "application/json"}
    args = spec["components"]["schemas"]["ProcessorArgs"]
    assert args["required"] == ["input_file_grps"]
    assert "@id" in spec["components"]["schemas"]["WorkspaceBody"]["properties"]
