"""How runs and workflows become jobs, and which are refused, without workers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.model import Scope
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import (
    messages,
    nextflow,
    processing,
    programs,
    redis_keys,
    tools,
    work,
    workflows,
    workspaces,
)
from ocr_tasks.ocrd.model import NEXTFLOW, ProcessingState, Run, Workspace
from ocr_tasks.security import tokens
from ocr_tasks.storage import layout
from tests.bags import KANT

ONE, TWO = "PHYS_0017", "PHYS_0020"
IMAGES = "OCR-D-IMG"

TOOL: dict[str, Any] = {
    "executable": "ocrd-x",
    "description": "a test",
    "steps": [],
    "categories": [],
    "input_file_grp_cardinality": [1, 2],
    "output_file_grp_cardinality": 1,
    "parameters": {
        "level": {"type": "string", "description": "", "default": "page", "enum": ["page", "line"]}
    },
}

RUN = Run("ocrd-x", (IMAGES,), ("OUT",))


@pytest.fixture
def kant(service: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("OCR_OCRD_FOLDERS", str(tmp_path))
    settings.clear()
    shutil.copytree(KANT, tmp_path / "kant")
    tools.announce({"ocrd-x": TOOL, "ocrd-y": {**TOOL, "executable": "ocrd-y"}})
    yield workspaces.find(str(tmp_path / "kant" / "mets.xml"), "")
    settings.clear()


def submit(kant: Workspace, owner: str = "", **fields: Any) -> Any:
    return processing.submit(replace(RUN, **fields), kant, owner)


def test_a_run_becomes_a_job_with_all_its_parameters(kant: Workspace) -> None:
    job = submit(kant)

    assert job.state is ProcessingState.QUEUED
    assert job.run.parameters == {"level": "page"}
    assert job.path_to_mets == kant.mets
    assert job.pages is None
    assert processing.read(job.id, "") == job


def test_pages_are_resolved_in_the_workspace(kant: Workspace) -> None:
    assert submit(kant, page_id="PHYS_0019..PHYS_0025").pages == (TWO,)
    assert submit(kant, page_id=f"{TWO},{ONE}").pages is None  # all pages


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"processor": "ocrd-z"}, ocrd_errors.ProcessorUnavailable, "ocrd-z"),
        ({"processor": "ocrd-command"}, ocrd_errors.ProcessorUnavailable, "ocrd-command"),
        ({"processor": "../x"}, ocrd_errors.ProcessorUnavailable, "x"),
        ({"input_file_grps": ("NONE",)}, ocrd_errors.FileGroupUnknown, "NONE"),
        ({"input_file_grps": ()}, ocrd_errors.ProcessingInvalid, "input"),
        ({"input_file_grps": (IMAGES,) * 3}, ocrd_errors.ProcessingInvalid, "input"),
        ({"output_file_grps": ()}, ocrd_errors.ProcessingInvalid, "output"),
        ({"output_file_grps": ("../OUT",)}, ocrd_errors.ProcessingInvalid, "file group"),
        ({"output_file_grps": ("/tmp/x",)}, ocrd_errors.ProcessingInvalid, "file group"),
        ({"output_file_grps": ("A", "A")}, ocrd_errors.ProcessingInvalid, "twice"),
        ({"output_file_grps": (IMAGES,)}, ocrd_errors.ProcessingInvalid, "both"),
        ({"page_id": "PHYS_9999"}, ocrd_errors.PageIdsInvalid, "PHYS_9999"),
        ({"parameters": {"level": "word"}}, ocrd_errors.ParametersInvalid, "level"),
        ({"parameters": {"other": 1}}, ocrd_errors.ParametersInvalid, "other"),
        ({"depends_on": ("nothing",)}, ocrd_errors.ProcessingInvalid, "depends_on"),
        ({"callback_url": "http://127.0.0.1/"}, errors.CallbackRefused, "address|http"),
        ({"callback_url": "file:///etc/passwd"}, errors.CallbackRefused, "address|http"),
        ({"result_queue_name": "a b"}, ocrd_errors.ProcessingInvalid, "result_queue_name"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_an_invalid_run_is_refused_before_anything_is_queued(
    kant: Workspace,
    service: redis.Redis,
    fields: dict[str, Any],
    error: type[errors.OcrTasksError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        submit(kant, **fields)

    assert service.zcard(redis_keys.PROCESSING) == 0


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/a.tif"])
def test_files_outside_a_workspace_are_not_passed_to_a_processor(
    kant: Workspace, path: str
) -> None:
    names = kant.mets.read_text()
    kant.mets.write_text(names.replace("OCR-D-IMG/INPUT_0017.tif", path))
    assert kant.mets.read_text() != names

    with pytest.raises(ocrd_errors.WorkspaceInvalid, match=path):
        submit(kant)


def test_a_job_may_use_the_output_of_an_earlier_one(kant: Workspace) -> None:
    first = submit(kant)

    second = submit(
        kant, input_file_grps=("OUT",), output_file_grps=("NEXT",), depends_on=(first.id,)
    )

    assert second.state is ProcessingState.CACHED
    processing.cancel(first.id)
    assert processing.read(second.id).state is ProcessingState.CANCELLED
    assert processing.read(second.id).error_code == "dependency_failed"


def test_jobs_of_others_are_unknown(kant: Workspace) -> None:
    job = submit(kant, owner="anna")

    for look in (processing.read, processing.cancel, processing.log_file):
        with pytest.raises(ocrd_errors.ProcessingNotFound):
            look(job.id, "bert")
    with pytest.raises(ocrd_errors.ProcessingInvalid, match="depends_on"):
        submit(kant, owner="bert", output_file_grps=("B",), depends_on=(job.id,))
    assert processing.read(job.id, None).owner == "anna"


def test_the_number_of_open_jobs_is_limited(
    kant: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_MAX_JOBS", "2")
    settings.clear()
    submit(kant)
    submit(kant)

    with pytest.raises(errors.QueueFull):
        submit(kant)


def test_runs_wait_for_a_worker_if_the_processor_is_known(
    kant: Workspace, service: redis.Redis
) -> None:
    service.delete(redis_keys.processor("ocrd-x"))

    job = submit(kant)
    workflow = run(kant, "x -I OCR-D-IMG -O C\ny -I OCR-D-IMG -O D")

    assert job.state is ProcessingState.QUEUED
    assert processing.why_queued(job) == "No running worker offers ocrd-x"
    summary = workflows.summary(workflow.id)
    assert summary["ocrd-x"] == {"QUEUED": 1}
    assert summary["processors-without-worker"] == ["ocrd-x"]
    tools.announce({"ocrd-x": TOOL})
    assert processing.why_queued(job) == ""
    assert "processors-without-worker" not in workflows.summary(workflow.id)


# Result queues


def fill(service: redis.Redis, workspace: Workspace, *ids: str) -> None:
    for job_id in ids:
        told = messages.prefix(job_id, workspace) + "state: SUCCESS\nstatus: SUCCESS\n"
        service.rpush(redis_keys.results("anna", "mine"), told)


def leased(seconds: float = 0) -> list[str]:
    return [row["job_id"] for row in messages.lease("mine", "anna", seconds)]


def test_a_message_is_leased_from_the_queue_of_its_owner(
    kant: Workspace, service: redis.Redis
) -> None:
    fill(service, kant, "id")

    assert messages.lease("mine", "bert", 0) == []
    (found,) = messages.lease("mine", "anna", 0)
    assert layout.is_id(found.pop("receipt"))
    assert found == {
        "job_id": "id",
        "path_to_mets": str(kant.mets),
        "workspace_id": "",
        "state": "SUCCESS",
        "status": "SUCCESS",
    }
    assert messages.lease("mine", "anna", 0) == []


def test_messages_are_returned_again_in_their_order_until_they_are_acknowledged(
    kant: Workspace, service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MOST", 2)
    fill(service, kant, "1", "2", "3", "4", "5")
    first = messages.lease("mine", "anna", 0)
    assert leased() == ["3", "4"]
    receipt = first[0]["receipt"]

    assert messages.acknowledge("mine", "bert", receipt) == 0
    assert messages.acknowledge("mine", "anna", "../x") == 0
    assert messages.acknowledge("mine", "anna", receipt) == 2
    assert messages.acknowledge("mine", "anna", receipt) == 0

    assert leased() == ["5"]
    expire_leases(service)
    assert [leased(), leased(), leased()] == [["3", "4"], ["5"], []]
    expire_leases(service)
    monkeypatch.setattr(messages, "MOST", 100)
    (third, *_) = messages.lease("mine", "anna", 0)
    assert messages.acknowledge("mine", "anna", third["receipt"]) == 3
    expire_leases(service)
    assert leased() == []
    assert service.keys("*results*") == []


def expire_leases(service: redis.Redis) -> None:
    leases = redis_keys.results("anna", "mine") + ":leases"
    for number, (receipt, _) in enumerate(service.zrange(leases, 0, -1, withscores=True)):
        service.zadd(leases, {receipt: number})


def test_a_receipt_of_an_expired_lease_acknowledges_nothing(
    kant: Workspace, service: redis.Redis
) -> None:
    fill(service, kant, "1")
    (found,) = messages.lease("mine", "anna", 0)
    expire_leases(service)
    (again,) = messages.lease("mine", "anna", 0)

    assert messages.acknowledge("mine", "anna", found["receipt"]) == 0
    assert messages.acknowledge("mine", "anna", again["receipt"]) == 1


def test_a_client_waits_while_redis_is_full(kant: Workspace, service: redis.Redis) -> None:
    service.config_set("maxmemory", "1")
    try:
        assert leased(0.1) == []
    finally:
        service.config_set("maxmemory", "0")
    fill(service, kant, "1")
    assert leased() == ["1"]


def test_clients_that_wait_share_the_messages(kant: Workspace, service: redis.Redis) -> None:
    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(leased, 60) for _ in range(2)]
        fill(service, kant, "1")
        wait(clients, return_when=FIRST_COMPLETED)
        fill(service, kant, "2")

        assert sorted(client.result() for client in clients) == [["1"], ["2"]]


def test_a_client_that_has_left_gets_no_message(kant: Workspace, service: redis.Redis) -> None:
    fill(service, kant, "1")

    assert messages.lease("mine", "anna", 60, has_left=lambda: True) == []
    assert leased() == ["1"]


# Workflows

TEXT = "x -I OCR-D-IMG -O A\ny -I OCR-D-IMG -O B\nx -I A,B -O C -P level line\n"


def run(
    kant: Workspace,
    text: str = TEXT,
    page_id: str = "",
    page_wise: bool = False,
    owner: str = "",
    parameters: dict[str, Any] | None = None,
) -> Any:
    return workflows.run(text, kant, page_id, page_wise, "", owner, parameters=parameters)


def test_a_step_depends_on_those_that_write_its_input(kant: Workspace) -> None:
    job = run(kant)

    (chain,) = job.jobs.values()
    found = [workflows.states(job)[one] for one in chain]
    assert [one.run.processor for one in found] == ["ocrd-x", "ocrd-y", "ocrd-x"]
    assert [one.state for one in found] == ["QUEUED", "QUEUED", "CACHED"]
    assert found[2].run.depends_on == tuple(chain[:2])
    assert found[2].run.parameters == {"level": "line"}
    assert workflows.summary(job.id) == {
        "ocrd-x": {"QUEUED": 1, "CACHED": 1},
        "ocrd-y": {"QUEUED": 1},
    }
    assert workflows.simple_state(job.id) is ProcessingState.UNSET
    assert workflows.read_job(job.id, "") == job


def test_with_page_wise_runs_every_page_has_its_own_chain_of_jobs(kant: Workspace) -> None:
    job = run(kant, page_wise=True)

    assert {page: len(chain) for page, chain in job.jobs.items()} == {ONE: 3, TWO: 3}
    found = workflows.states(job)
    assert [found[one].run.page_id for one in job.jobs[TWO]] == [TWO] * 3
    assert {one.pages for one in found.values()} == {(ONE,), (TWO,)}


def test_cancelling_a_workflow_cancels_all_its_jobs(kant: Workspace) -> None:
    job = run(kant, page_wise=True)

    workflows.cancel(job.id)

    assert {one.state for one in workflows.states(job).values()} == {"CANCELLED"}
    assert workflows.simple_state(job.id) is ProcessingState.FAILED


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("z -I OCR-D-IMG -O A", ocrd_errors.ProcessorUnavailable, "ocrd-z"),
        ("x -I NONE -O A", ocrd_errors.FileGroupUnknown, "NONE"),
        ("x -I A -O B\nx -I OCR-D-IMG -O A", ocrd_errors.FileGroupUnknown, "A"),
        ("x -I OCR-D-IMG -O A\nx -I A -O B -P level word", ocrd_errors.ParametersInvalid, "line 2"),
        ("x -I OCR-D-IMG", ocrd_errors.ProcessingInvalid, "line 1"),
        ("x -I", ocrd_errors.WorkflowInvalid, "line 1, column"),
        ("", ocrd_errors.WorkflowInvalid, "."),
    ],
    ids=["processor", "group", "order", "parameter", "no_output", "syntax", "empty"],
)
def test_an_invalid_workflow_is_refused_as_a_whole(
    kant: Workspace,
    service: redis.Redis,
    text: str,
    error: type[errors.OcrTasksError],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        run(kant, text)

    assert service.zcard(redis_keys.PROCESSING) == 0


def test_the_size_of_a_workflow_is_limited(
    kant: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_MAX_JOBS", "5")
    settings.clear()

    with pytest.raises(ocrd_errors.ProcessingInvalid, match="more than 5"):
        run(kant, page_wise=True)


def test_a_workflow_is_stored_once_per_owner_and_can_be_replaced(kant: Workspace) -> None:
    first = workflows.save(TEXT, "anna")

    assert workflows.text(first, "anna") == TEXT
    with pytest.raises(ocrd_errors.WorkflowExists) as refused:
        workflows.save(TEXT, "anna")
    assert refused.value.extra["workflow_id"] == first
    assert workflows.save(TEXT, "bert") != first
    with pytest.raises(ocrd_errors.WorkflowNotFound):
        workflows.text(first, "bert")

    workflows.replace(first, "x -I OCR-D-IMG -O A", "anna")

    assert workflows.text(first, "anna") == "x -I OCR-D-IMG -O A"
    assert workflows.save(TEXT, "anna") != first
    for unknown in (layout.new_id(), "../x", ""):
        with pytest.raises(ocrd_errors.WorkflowNotFound):
            workflows.replace(unknown, TEXT, "anna")


# Nextflow

SCRIPT = 'nextflow.enable.dsl = 2\nworkflow {\n  println "here"\n}\n'


def test_a_nextflow_script_is_refused_if_no_worker_runs_nextflow(kant: Workspace) -> None:
    for act in (lambda: workflows.save(SCRIPT, ""), lambda: run(kant, SCRIPT)):
        with pytest.raises((ocrd_errors.NextflowUnavailable, ocrd_errors.ProcessorUnavailable)):
            act()


def test_a_nextflow_script_becomes_one_job_if_a_worker_runs_nextflow(kant: Workspace) -> None:
    tools.announce({NEXTFLOW: nextflow.TOOL})

    assert workflows.text(workflows.save(SCRIPT, ""), "") == SCRIPT
    job = run(kant, SCRIPT)

    (only,) = workflows.states(job).values()
    assert (only.run.processor, only.run.parameters) == (NEXTFLOW, {"script": SCRIPT})
    assert NEXTFLOW not in tools.offered()
    with pytest.raises(ocrd_errors.ProcessingInvalid):
        run(kant, SCRIPT, page_wise=True)


@pytest.fixture
def fake_nextflow(own_bin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the path of a program that prints how it was started."""
    program = own_bin / "nextflow"
    program.write_text('#!/bin/sh\necho "$@"\nenv\ncat workflow.nf parameters.json\n')
    program.chmod(0o755)
    monkeypatch.setenv("OCR_OCRD_PATH", str(own_bin))
    settings.clear()
    tools.announce({NEXTFLOW: nextflow.TOOL})
    return program


def test_nextflow_gets_the_script_with_its_parameters_and_the_workspace(
    kant: Workspace, fake_nextflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NXF_OPTS", "-Xmx1g")
    assert "NXF_OPTS" not in programs.environment()
    given = {"input_file_grp": "OCR-D-IMG", "token": "forged", "pages": [1, 2]}
    (job,) = workflows.states(run(kant, SCRIPT, parameters=given)).values()

    nextflow.run(job, tmp_path / "work", tmp_path / "log")

    said = (tmp_path / "log").read_text()
    server = "127.0.0.1:8000/ocrd"
    assert f"--mets {kant.mets} --mets_path {kant.mets} --workspace_dir {kant.folder}" in said
    assert f"--processing_server_url http://{server} " in said
    assert f"--processing_server_address {server}\n" in said
    assert SCRIPT in said
    parameters = json.loads(said.splitlines()[-1])
    assert parameters == {**given, "token": ""}
    # Nextflow's runtime is downloaded once.
    assert f"NXF_HOME={programs.home()}/.nextflow\n" in said
    assert "NXF_OPTS=-Xmx1g\n" in said
    fake_nextflow.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ocrd_errors.ProcessorFailed, match="status 3"):
        nextflow.run(job, tmp_path / "work", tmp_path / "log")


def test_nextflow_gets_a_token_of_the_owner_for_the_time_of_the_run(
    kant: Workspace, fake_nextflow: Path, tmp_path: Path
) -> None:
    owner, _ = tokens.create("anna", [Scope.OCRD, Scope.READ])
    (job,) = workflows.states(run(kant, SCRIPT, owner=owner.id)).values()

    nextflow.run(job, tmp_path / "work", tmp_path / "log")

    arguments, *said = (tmp_path / "log").read_text().splitlines()
    token = json.loads(said[-1])["token"]
    assert token.startswith(f"ocrt_{owner.id}_")
    assert f"OCR_TOKEN={token}" in said
    assert token not in arguments
    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(token)


def test_the_token_of_a_script_is_revoked_when_its_job_is_cancelled(kant: Workspace) -> None:
    tools.announce({NEXTFLOW: nextflow.TOOL})
    owner, _ = tokens.create("anna", [Scope.OCRD])
    (job,) = workflows.states(run(kant, SCRIPT, owner=owner.id)).values()
    assert work.begin(job.id, "run", "host:1:2")
    with nextflow._token(job) as token:
        assert tokens.verify(token).id == owner.id

        processing.cancel(job.id, owner.id)

        with pytest.raises(errors.NotAuthenticated):
            tokens.verify(token)


def test_only_nextflow_scripts_have_parameters(kant: Workspace) -> None:
    with pytest.raises(ocrd_errors.ProcessingInvalid, match="Only Nextflow scripts"):
        run(kant, "x -I OCR-D-IMG -O A", parameters={"dpi": 300})


@pytest.mark.parametrize(
    ("configured", "url", "port"),
    [
        ({"OCR_HOST": "0.0.0.0", "OCR_PORT": "81"}, "http://127.0.0.1:81", 81),
        ({"OCR_HOST": "::"}, "http://[::1]:8000", 8000),
        ({"OCR_HOST": "ocr.example"}, "http://ocr.example:8000", 8000),
        ({"OCR_OCRD_SERVER_URL": "https://ocr.example"}, "https://ocr.example", 443),
        ({"OCR_OCRD_SERVER_URL": "http://web"}, "http://web", 80),
    ],
    ids=str,
)
def test_scripts_use_the_url_in_settings_or_that_of_a_server_on_this_machine(
    configured: dict[str, str], url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in configured.items():
        monkeypatch.setenv(name, value)
    settings.clear()

    assert (nextflow.server_url(), nextflow.server_port()) == (url, port)


@pytest.mark.parametrize(("scheme", "given"), [("http", True), ("https", False)])
def test_scripts_get_no_address_to_which_they_would_send_the_token_unencrypted(
    scheme: str, given: bool, kant: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OCRD_SERVER_URL", f"{scheme}://ocr.example")
    settings.clear()
    tools.announce({NEXTFLOW: nextflow.TOOL})
    (job,) = workflows.states(run(kant, SCRIPT)).values()

    assert ("processing_server_address" in nextflow._own_parameters(job)) is given
