"""`ocr-tasks ocrd …` with the application in this process and a fake server side (`behind.py`)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_tasks import cli, errors
from ocr_tasks.model import Scope
from ocr_tasks.ocrd import calls as ocrd_calls
from ocr_tasks.ocrd import processing, workflows
from ocr_tasks.ocrd.model import ProcessingState
from ocr_tasks.security import tokens
from tests.ocrd.behind import JOB, RUN, Behind
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

TEXT = "dummy -I OCR-D-IMG -O OCR-D-COPY\n"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ocrd(
    behind: Behind,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    """Runs a command; returns its exit code and both outputs."""
    application = configure(access="tokens").application
    _token, text = tokens.create("shell", {Scope.OCRD})
    monkeypatch.setenv("OCR_TOKEN", text)
    client = httpx.Client

    def reach(**given: Any) -> httpx.Client:
        transport = httpx.WSGITransport(application, remote_addr="127.0.0.1")
        return client(transport=transport, **given)

    monkeypatch.setattr(httpx, "Client", reach)
    monkeypatch.setattr(ocrd_calls.time, "sleep", lambda seconds: None)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["ocrd", *words, "--url", "http://localhost/"])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def end(behind: Behind, state: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Sets the state that each job has from the second request on."""
    looks: list[str] = []
    read = processing.read

    def later(job_id: str, owner: str | None) -> Any:
        job = read(job_id, owner)
        looks.append(job_id)
        if len(looks) == 1:
            return job
        return dataclasses.replace(job, state=ProcessingState(state), **more)

    monkeypatch.setattr(processing, "read", later)


def test_processors_are_listed_and_described(ocrd: Command) -> None:
    assert ocrd("processors") == (0, "ocrd-dummy\n", "")
    code, said, _ = ocrd("processor", "ocrd-dummy")
    assert (code, json.loads(said)["executable"]) == (0, "ocrd-dummy")


def test_a_run_is_started_as_requested(ocrd: Command, behind: Behind) -> None:
    words = ["run", "ocrd-dummy", "-w", "ws-1", "-I", "A,B", "-O", "C", "-g", "P1..P3"]
    words += ["--depends-on", "X", "--depends-on", "Y"]
    more = ["-p", '{"a": 1, "b": 2}', "-P", "b", "true", "-P", "model", "deu", "-P", "n", "01"]
    rest = ["--result-queue", "mine", "--callback-url", "https://example.org/"]

    assert ocrd(*words, *more, *rest) == (0, f"{JOB}\n", "")

    run = behind.jobs[JOB].run
    assert (run.input_file_grps, run.output_file_grps) == (("A", "B"), ("C",))
    assert run.parameters == {"a": 1, "b": True, "model": "deu", "n": "01"}
    assert (run.page_id, run.depends_on) == ("P1..P3", ("X", "Y"))
    assert (run.result_queue_name, run.callback_url) == ("mine", "https://example.org/")
    assert ocrd("status", JOB) == (0, "CACHED\n", "")
    assert ocrd("cancel", JOB) == (0, "CANCELLED\n", "")


@pytest.mark.parametrize(("state", "code"), [("SUCCESS", 0), ("FAILED", 70), ("CANCELLED", 70)])
def test_a_run_with_wait_prints_its_end(
    ocrd: Command, behind: Behind, monkeypatch: pytest.MonkeyPatch, state: str, code: int
) -> None:
    failed = {"error": "no model", "error_code": "processor_failed"} if state == "FAILED" else {}
    end(behind, state, monkeypatch, **failed)

    done = ocrd("run", "ocrd-dummy", "-m", str(behind.workspace.mets), "-I", "A", "--block")

    why = ": no model [processor_failed]" if failed else ""
    assert done == (code, f"{JOB}\n", f"{state}{why}\n")


def test_a_log_is_followed_to_its_end(
    ocrd: Command, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    ocrd("run", "ocrd-dummy", "-w", "ws-1", "-I", "A")
    assert ocrd("log", JOB) == (0, "", "")
    lines = iter(["", "first\n", "first\n", "first\nsecond\n"])
    states = iter(["QUEUED", "RUNNING", "RUNNING", "SUCCESS"])
    read = processing.log_file

    def more(job_id: str, owner: str | None) -> Path:
        behind.log.write_text(next(lines))
        return read(job_id, owner)

    monkeypatch.setattr(processing, "log_file", more)
    monkeypatch.setattr(ocrd_calls, "_state", lambda api, job_id: next(states))

    assert ocrd("log", JOB, "--follow") == (0, "first\nsecond\n", "")


def test_results_are_printed_as_json_lines_and_acknowledged(ocrd: Command, behind: Behind) -> None:
    code, said, _ = ocrd("results", "mine")

    assert code == 0
    row = {"job_id": JOB, "state": "SUCCESS", "queue": "mine", "waited": 0.0}
    assert json.loads(said) == row
    assert behind.acknowledged == ["mine"]


def test_a_workflow_is_stored_printed_and_run(
    ocrd: Command, behind: Behind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "workflow.txt"
    file.write_text(TEXT)

    assert ocrd("workflow", "upload", str(file)) == (0, "wf-0\n", "")
    assert ocrd("workflow", "show", "wf-0") == (0, TEXT, "")
    for named in ("wf-0", str(file)):
        words = ["workflow", "run", named, "-w", "ws-1", "-g", "P1", "--page-wise"]
        assert ocrd(*words) == (0, f"{RUN}\n", "")
    owner = behind.runs[0][5]
    assert behind.runs == [(TEXT, behind.workspace, "P1", True, "", owner)] * 2
    code, said, _ = ocrd("workflow", "status", RUN)
    assert code == 0
    assert json.loads(said) == {"state": "RUNNING", "jobs": {"ocrd-dummy": {"SUCCESS": 3}}}
    assert ocrd("workflow", "cancel", RUN) == (0, "", "")
    monkeypatch.setattr(workflows, "simple_state", lambda *_: ProcessingState.FAILED)
    done = ocrd("workflow", "run", "wf-0", "-w", "ws-1", "--block")
    assert done == (70, f"{RUN}\n", "FAILED\n")


def test_a_workspace_is_uploaded_downloaded_and_deleted(
    ocrd: Command, behind: Behind, tmp_path: Path
) -> None:
    file = tmp_path / "kant.ocrd.zip"
    file.write_bytes(b"PK123")

    assert ocrd("workspace", "create", str(file)) == (0, "ws-1\n", "")
    code, said, _ = ocrd("workspace", "replace", "mine", str(file))
    assert (code, json.loads(said)["workspace_id"]) == (0, "mine")
    assert [(row[0], row[2]) for row in behind.received] == [(b"PK123", None), (b"PK123", "mine")]
    address = "https://example.org/mets.xml"
    assert ocrd("workspace", "create", address, "--groups", "A,B") == (0, "ws-1\n", "")
    assert behind.fetched[0][::2] == (address, ["A", "B"])
    assert ocrd("workspace", "list") == (0, f"ws-1\t{behind.workspace.mets}\t\n", "")
    code, said, _ = ocrd("workspace", "show", "ws-1")
    assert json.loads(said)["path_to_mets"] == str(behind.workspace.mets)
    target = tmp_path / "out.zip"
    assert ocrd("workspace", "get", "ws-1", "-o", str(target)) == (0, f"{target}\n", "")
    assert target.read_bytes() == b"PKws-1"
    assert ocrd("workspace", "delete", "ws-1") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", RUN], 65, "processing_not_found"),
        (["workspace", "get", "ws-0"], 65, "workspace_deleted"),
        (["run", "ocrd-none", "-w", "ws-1", "-I", "A"], 65, "processor_not_found"),
        (["run", "ocrd-dummy", "-w", "ws-1", "-I", "A", "-p", "[]"], 2, "JSON object"),
        (["run", "ocrd-dummy", "-w", "ws-1", "-I", "A", "-p", "{"], 2, "-p must be a JSON object"),
        (["workspace", "create", "/nowhere/x.zip"], 2, "/nowhere/x.zip: No such file"),
    ],
    ids=["unknown", "gone", "no processor", "a list", "torn", "no file"],
)
def test_errors_are_reported_with_a_message_and_an_exit_code(
    ocrd: Command, words: list[str], code: int, said: str
) -> None:
    done = ocrd(*words)

    assert done[0] == code
    assert said in done[2]


def test_an_unreachable_server_has_its_own_exit_code(
    ocrd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_more: Any) -> Any:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(ocrd_calls.Api, "request", fail)

    assert ocrd("processors") == (69, "", "ocr-tasks: the server does not respond: refused\n")


def test_a_wrong_token_is_refused(ocrd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_TOKEN", "x")

    code, _, said = ocrd("processors")

    assert code == 65
    assert errors.NotAuthenticated.code in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--processors", "ocrd-dummy,ocrd-x"], "ocrd-dummy ocrd-x"),
        ([], "ocrd-other"),
    ],
    ids=["told", "not told"],
)
def test_a_worker_sets_its_processors_before_it_loads_its_settings(
    words: list[str], expected: str, redis_server: str
) -> None:
    program = (
        "from ocr_tasks import cli\nfrom ocr_tasks.ocrd import settings as ocrd_settings\n"
        "import os, sys\n"
        "def started():\n"
        "    print(*ocrd_settings.get().processors)\n"
        "    os._exit(sys.stdout.flush() or 0)\n"
        "from ocr_tasks.redis import connection\n"
        "connection.check = started\n"
        f"cli.main(['worker', *{words!r}])\n"
    )
    environment = {**os.environ, "OCR_PROCESSORS": "ocrd-other", "OCR_REDIS_URL": redis_server}

    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )

    assert said.stdout.strip() == expected
