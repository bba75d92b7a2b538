"""OCR-D's Web API with real processors, OCR-D's own client, and a worker that is killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import DATA, Stack, running_stack, wait_for_end, wait_until
from tests.examples import ROOT, run_page
from tests.receivers import receiving

pytestmark = pytest.mark.acceptance

KANT = DATA / "kant"
DUMMY, TESSEROCR, OURS = "ocrd-dummy", "ocrd-tesserocr-recognize", "ocrd-ocr-tasks-recognize"
SLOW, BAD = "ocrd-slow", "ocrd-bad"
PAGES = ["PHYS_0017", "PHYS_0020"]
GERMAN = {"segmentation_level": "region", "textequiv_level": "word", "model": "deu"}

#: Processors that are programs: one runs until a file exists, the other one always fails.
_DESCRIBED = """#!/bin/sh
case "$1" in --dump-json|-J)
  echo '{"executable": "%s", "description": "a test", "steps": [], "categories": [],
    "input_file_grp_cardinality": 1, "output_file_grp_cardinality": 1, "parameters": {}}'
  exit;;
esac
"""
_SLOW = """echo waiting
echo $$ >> "$OCRD_TEST_FOLDER/began"
until [ -e "$OCRD_TEST_FOLDER/go" ]; do sleep 0.1; done
exec "%s" "$@"
"""
_BAD = """echo 'ERROR test - this one never works' >&2
exit 3
"""


class Api:
    """A client of `/ocrd`, like one that its users write."""

    def __init__(self, stack: Stack) -> None:
        self.http = httpx.Client(base_url=f"{stack.url}/ocrd", timeout=60)

    def upload(self, folder: Path, identifier: str = "kant") -> dict[str, Any]:
        answer = self.http.post(
            "/workspace",
            content=bag(folder, identifier),
            headers={"Content-Type": "application/vnd.ocrd+zip"},
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    def run(self, processor: str, workspace: dict[str, Any], **body: Any) -> dict[str, Any]:
        body = {"workspace_id": workspace["workspace_id"], "input_file_grps": ["OCR-D-IMG"], **body}
        answer = self.http.post(f"/processor/run/{processor}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.http.get(f"/processor/job/{job['job_id']}").json()

    def end(self, job: dict[str, Any]) -> str:
        def ended() -> str | None:
            state = self.job(job)["state"]
            return state if state in ("SUCCESS", "FAILED", "CANCELLED") else None

        return str(wait_until(ended, 120))

    def log(self, job: dict[str, Any]) -> str:
        answer = self.http.get(f"/processor/log/{job['job_id']}")
        assert answer.status_code == 200
        return answer.text

    def run_workflow(self, text: str, workspace: dict[str, Any], **query: Any) -> dict[str, Any]:
        query = {"mets_path": workspace["path_to_mets"], **query}
        answer = self.http.post("/workflow/run", params=query, files={"workflow": text.encode()})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end_of_workflow(self, job: dict[str, Any]) -> str:
        def ended() -> str | None:
            state = self.http.get(f"/workflow/job-simple/{job['job_id']}").json()["state"]
            return state if state in ("SUCCESS", "FAILED") else None

        return str(wait_until(ended, 120))

    def download(self, workspace: dict[str, Any]) -> zipfile.ZipFile:
        answer = self.http.get(f"/workspace/{workspace['workspace_id']}")
        assert answer.headers["content-type"] == "application/vnd.ocrd+zip"
        return zipfile.ZipFile(io.BytesIO(answer.content))


def bag(folder: Path, identifier: str) -> bytes:
    """Creates an OCRD-ZIP of a workspace with the code of the service."""
    from ocr_tasks.ocrd.zip import ocrd_zip

    return b"".join(ocrd_zip.pack(folder, "mets.xml", identifier))


@pytest.fixture(scope="module")
def tools_folder(tmp_path_factory: pytest.TempPathFactory, ocrd_bin: Path) -> Path:
    folder = tmp_path_factory.mktemp("processors")
    for name, what in ((SLOW, _SLOW % (ocrd_bin / DUMMY)), (BAD, _BAD)):
        (folder / name).write_text(_DESCRIBED % name + what)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of workspaces that are named by path."""
    return tmp_path_factory.mktemp("workspaces")


@pytest.fixture(scope="module")
def ocrd_stack(
    tmp_path_factory: pytest.TempPathFactory, ocrd_bin: Path, tools_folder: Path, workspaces: Path
) -> Iterator[Stack]:
    tessdata = next(Path("/usr/share/tesseract-ocr").glob("*/tessdata"))
    with running_stack(
        tmp_path_factory.mktemp("ocrd"),
        OCR_PROCESSORS=",".join((DUMMY, TESSEROCR, OURS, BAD)),
        OCR_OCRD_PATH=f"{tools_folder}:{ocrd_bin}",
        OCR_OCRD_FOLDERS=str(workspaces),
        OCR_CALLBACK_NETWORKS="127.0.0.0/8",
        OCR_LEASE_SECONDS="5",
        OCRD_TEST_FOLDER=str(workspaces),
        TESSDATA_PREFIX=str(tessdata),
    ) as stack:
        # Each of them is started once to get its description.
        address = f"{stack.url}/ocrd/processor"
        wait_until(lambda: len(httpx.get(address, verify=False).json()) == 4, 180)
        yield stack


@contextlib.contextmanager
def worker(stack: Stack, *processors: str) -> Iterator[psutil.Process]:
    """Runs another worker, which offers these processors."""
    command = [sys.executable, "-m", "ocr_tasks.cli", "worker", "--processors"]
    with stack.log.open("ab") as words:
        process = psutil.Popen(
            [*command, ",".join(processors)], env=stack.environment, stdout=words, stderr=words
        )
    try:
        address = f"{stack.url}/ocrd/processor"
        wait_until(lambda: {*processors} <= {*httpx.get(address, verify=False).json()})
        yield process
    finally:
        process.terminate()
        process.wait(30)


def kill_all_of(worker: psutil.Process) -> None:
    """Kills a worker and all its child processes, as if its host had failed."""
    processes = [worker, *worker.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture(scope="module")
def api(ocrd_stack: Stack) -> Iterator[Api]:
    found = Api(ocrd_stack)
    yield found
    found.http.close()


@pytest.fixture
def workspace(api: Api) -> dict[str, Any]:
    return api.upload(KANT)


@pytest.fixture
def local(workspaces: Path) -> Path:
    """Returns a METS file that is named by its path."""
    target = workspaces / f"kant-{uuid.uuid4()}"
    shutil.copytree(KANT, target)
    return target / "mets.xml"


def by_path(mets: Path) -> dict[str, Any]:
    return {"path_to_mets": str(mets)}


def text_of(archive: zipfile.ZipFile, group: str) -> str:
    names = [
        name
        for name in archive.namelist()
        if name.startswith(f"data/{group}/") and name.endswith(".xml")
    ]
    assert names, archive.namelist()
    found = b" ".join(archive.read(name) for name in names).decode()
    return " ".join(re.findall(r"<(?:pc:)?Unicode>([^<]*)<", found))


def ocrd(ocrd_bin: Path, *arguments: str | Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [ocrd_bin / "ocrd", *arguments],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# Processors


def test_a_processor_runs_and_the_workspace_is_a_valid_ocrd_zip(
    api: Api, workspace: dict[str, Any], ocrd_bin: Path, tmp_path: Path
) -> None:
    job = api.run(DUMMY, workspace, output_file_grps=["OCR-D-COPY"])

    assert api.end(job) == "SUCCESS", api.log(job)

    assert api.job(job)["path_to_mets"] == workspace["path_to_mets"]
    archive = api.download(workspace)
    assert len([n for n in archive.namelist() if "OCR-D-COPY/" in n]) == len(PAGES)
    assert archive.fp is not None
    archive.fp.seek(0)
    (tmp_path / "out.ocrd.zip").write_bytes(archive.fp.read())
    ocrd(ocrd_bin, "zip", "validate", tmp_path / "out.ocrd.zip", env={})


def test_a_second_run_into_the_same_group_changes_nothing_and_succeeds(
    api: Api, workspace: dict[str, Any]
) -> None:
    one = api.run(DUMMY, workspace, output_file_grps=["OCR-D-COPY"])
    two = api.run(DUMMY, workspace, output_file_grps=["OCR-D-COPY"])

    assert [api.end(one), api.end(two)] == ["SUCCESS", "SUCCESS"]


def test_a_page_is_processed_by_ocr_ds_tesseract_and_by_the_built_in_one(
    api: Api, workspace: dict[str, Any]
) -> None:
    common = {"page_id": PAGES[0]}
    theirs = api.run(
        TESSEROCR, workspace, output_file_grps=["OCR-D-TESS"], parameters=GERMAN, **common
    )
    ours = api.run(
        OURS,
        workspace,
        output_file_grps=["OCR-D-OURS"],
        parameters={"languages": "deu"},
        **common,
    )

    assert api.end(theirs) == "SUCCESS", api.log(theirs)
    assert api.end(ours) == "SUCCESS", api.log(ours)

    archive = api.download(workspace)
    for group in ("OCR-D-TESS", "OCR-D-OURS"):
        assert "Unmündigkeit" in text_of(archive, group) or "Menſchen" in text_of(archive, group)


def test_a_failure_is_retried_logged_reported_and_cancels_dependent_jobs(
    api: Api, workspace: dict[str, Any]
) -> None:
    with receiving() as receiver:
        told = {"callback_url": receiver.url, "result_queue_name": "ends"}
        bad = api.run(BAD, workspace, output_file_grps=["OCR-D-BAD"], **told)
        after = api.run(
            DUMMY,
            workspace,
            input_file_grps=["OCR-D-BAD"],
            output_file_grps=["OCR-D-AFTER"],
            depends_on=[bad["job_id"]],
        )
        assert api.job(after)["state"] in ("CACHED", "CANCELLED")

        assert api.end(bad) == "FAILED"
        assert api.end(after) == "CANCELLED"
        wait_until(lambda: receiver.got)

    log = api.log(bad)
    assert log.count("this one never works") >= 3
    assert "Try 2 of 3" in log
    message = json.loads(receiver.got[0][1])
    assert message["job_id"] == bad["job_id"]
    assert (message["state"], message["status"]) == ("FAILED", "FAILED")
    (queued,) = api.http.get("/result_queue/ends").json()
    assert {name: queued[name] for name in message} == message
    acknowledged = api.http.delete(f"/result_queue/ends/{queued['receipt']}").json()
    assert acknowledged == {"acknowledged": 1}


def test_a_client_that_goes_away_while_it_waits_takes_no_message_with_it(
    api: Api, workspace: dict[str, Any]
) -> None:
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            api.http.get("/result_queue/left", params={"wait": 20}, timeout=0.5)
    job = api.run(DUMMY, workspace, output_file_grps=["OCR-D-LEFT"], result_queue_name="left")

    (message,) = api.http.get("/result_queue/left", params={"wait": 60}).json()

    assert message["job_id"] == job["job_id"]
    again = {"receipt": message["receipt"]}
    assert api.http.get("/result_queue/left", params=again).json() == []


def test_a_running_processor_can_be_followed_and_cancelled(
    api: Api, workspace: dict[str, Any], ocrd_stack: Stack, workspaces: Path
) -> None:
    began = workspaces / "began"
    began.unlink(missing_ok=True)
    with worker(ocrd_stack, SLOW):
        job = api.run(SLOW, workspace, output_file_grps=["OCR-D-SLOW"])
        after = api.run(DUMMY, workspace, output_file_grps=["OCR-D-SLOW"])
        wait_until(began.exists)
        assert api.job(job)["state"] == "RUNNING"
        assert api.job(after)["state"] == "CACHED"  # it would write the same pages
        wait_until(lambda: "waiting" in api.log(job))
        process = psutil.Process(int(began.read_text().split()[0]))

        assert api.http.delete(f"/processor/job/{job['job_id']}").status_code == 200

        assert api.end(job) == "CANCELLED"
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert api.end(after) == "SUCCESS", api.log(after)


def test_another_worker_takes_over_from_a_killed_one(
    api: Api, local: Path, ocrd_stack: Stack, workspaces: Path
) -> None:
    began, go = workspaces / "began", workspaces / "go"
    began.unlink(missing_ok=True)
    groups = {"input_file_grps": ["OCR-D-IMG"], "output_file_grps": ["OCR-D-SLOW"]}
    with worker(ocrd_stack, SLOW) as first:
        job = api.http.post(f"/processor/run/{SLOW}", json=by_path(local) | groups).json()
        wait_until(began.exists)
        began.unlink()

        kill_all_of(first)

    with worker(ocrd_stack, SLOW):
        wait_until(began.exists)
        go.touch()
        try:
            assert api.end(job) == "SUCCESS", api.log(job)
        finally:
            go.unlink()
    assert 'USE="OCR-D-SLOW"' in local.read_text()
    assert list(local.parent.glob(".mets*")) == []


def test_a_run_waits_for_a_worker_if_the_processor_was_offered_before(
    api: Api, workspace: dict[str, Any], ocrd_stack: Stack, workspaces: Path
) -> None:
    go = workspaces / "go"
    wait_until(lambda: SLOW not in api.http.get("/processor").json())

    job = api.run(SLOW, workspace, output_file_grps=["OCR-D-X"])

    assert (job["state"], job["waiting"]) == ("QUEUED", f"No running worker offers {SLOW}")
    go.touch()
    try:
        with worker(ocrd_stack, SLOW):
            assert api.end(job) == "SUCCESS", api.log(job)
    finally:
        go.unlink()
    assert "waiting" not in api.job(job)


def test_an_unknown_processor_is_refused(api: Api, workspace: dict[str, Any]) -> None:
    groups = {"input_file_grps": ["OCR-D-IMG"], "output_file_grps": ["OCR-D-X"]}
    body = {"workspace_id": workspace["workspace_id"], **groups}

    for name in ("ocrd-unknown", "ocrd-command"):
        answer = api.http.post(f"/processor/run/{name}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "processor_unavailable")


# Workflows


def test_a_workflow_runs_step_by_step_and_per_page(api: Api, workspace: dict[str, Any]) -> None:
    text = (
        f"dummy -I OCR-D-IMG -O OCR-D-ONE\n"
        f"{OURS.removeprefix('ocrd-')} -I OCR-D-ONE -O OCR-D-TWO -P languages deu\n"
    )
    stored = api.http.post("/workflow", files={"workflow": text.encode()})
    workflow_id = stored.json()["workflow_id"]
    assert api.http.get(f"/workflow/{workflow_id}").text == text
    assert api.http.post("/workflow", files={"workflow": text.encode()}).status_code == 409

    with receiving() as receiver:
        query = {
            "mets_path": workspace["path_to_mets"],
            "workflow_id": workflow_id,
            "page_wise": "True",
            "workflow_callback_url": receiver.url,
        }
        job = api.http.post("/workflow/run", params=query).json()
        assert sorted(job["processing_job_ids"]) == PAGES
        assert {len(chain) for chain in job["processing_job_ids"].values()} == {2}
        assert api.end_of_workflow(job) == "SUCCESS"
        wait_until(lambda: receiver.got)

    assert json.loads(receiver.got[0][1])["job_id"] == job["job_id"]
    counts = api.http.get(f"/workflow/job/{job['job_id']}").json()
    assert counts == {DUMMY: {"SUCCESS": 2}, OURS: {"SUCCESS": 2}}
    assert len(text_of(api.download(workspace), "OCR-D-TWO").split()) > 100


def test_a_workflow_with_a_failed_step_reports_it(api: Api, workspace: dict[str, Any]) -> None:
    text = "bad -I OCR-D-IMG -O OCR-D-BAD\ndummy -I OCR-D-BAD -O OCR-D-AFTER\n"
    job = api.run_workflow(text, workspace, page_id=PAGES[1])

    assert api.end_of_workflow(job) == "FAILED"

    counts = api.http.get(f"/workflow/job/{job['job_id']}").json()
    failed = counts.pop("failed-processor-tasks")
    assert counts == {BAD: {"FAILED": 1}, DUMMY: {"CANCELLED": 1}}
    assert [row["page_id"] for row in failed[BAD]] == [PAGES[1]]


# OCR-D's own client


@pytest.fixture
def client_environment(ocrd_stack: Stack) -> dict[str, str]:
    return {
        "OCRD_NETWORK_SERVER_ADDR_PROCESSING": f"{ocrd_stack.url}/ocrd",
        "OCRD_NETWORK_CLIENT_POLLING_SLEEP": "1",
        "OCRD_NETWORK_CLIENT_POLLING_TIMEOUT": "60",
    }


#: Runs commands of `ocrd` and then a script in one process, because starting it takes seconds. JOB
#: in a command is the job that a previous command named.
_COMMANDS = """
import contextlib, io, json, re, sys
from ocrd.cli import cli
said, job = [], ""
for command in json.loads(sys.argv[1]):
    spoken = io.StringIO()
    with contextlib.redirect_stdout(spoken):
        try:
            cli.main([word.replace("JOB", job) for word in command], "ocrd", standalone_mode=False)
        except SystemExit as end:
            assert not end.code, spoken.getvalue()
    said.append(spoken.getvalue())
    job = "".join(re.findall("Processing job id: (.*)", said[-1])) or job
print(json.dumps(said))
"""


def commands(
    ocrd_bin: Path, *asked: list[str | Path], env: dict[str, str], then: str = ""
) -> list[str]:
    """Returns the output of OCR-D's program for each of these commands, and of a Python script."""
    done = subprocess.run(
        [ocrd_bin / "python", "-c", _COMMANDS + then, json.dumps(asked, default=str)],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said, _, rest = done.stdout.partition("\n")
    return [*json.loads(said), rest]


def test_ocr_ds_client_lists_runs_and_follows_processors(
    local: Path, ocrd_bin: Path, client_environment: dict[str, str]
) -> None:
    client = ["network", "client"]
    run = ["processing", "run", DUMMY, "-m", local, "-I", "OCR-D-IMG", "-O", "OCR-D-D", "--block"]
    found, said, status, log, _ = commands(
        ocrd_bin,
        [*client, "discovery", "processors"],
        [*client, *run],
        [*client, "processing", "check-status", "-j", "JOB"],
        [*client, "processing", "check-log", "-j", "JOB"],
        env=client_environment,
    )

    assert DUMMY in found
    assert re.search(r"Processing job id: [0-9a-f-]{36}\n", said)
    assert "SUCCESS" in status
    assert "ocrd" in log
    assert 'USE="OCR-D-D"' in local.read_text()


def test_ocr_ds_client_runs_workflows_and_its_python_class_works_too(
    local: Path, ocrd_bin: Path, client_environment: dict[str, str], tmp_path: Path
) -> None:
    workflow = tmp_path / "workflow.txt"
    workflow.write_text("dummy -I OCR-D-IMG -O OCR-D-A\ndummy -I OCR-D-A -O OCR-D-B\n")
    script = (
        "from ocrd_network import Client\n"
        f"client = Client({client_environment['OCRD_NETWORK_SERVER_ADDR_PROCESSING']!r})\n"
        f"assert {DUMMY!r} in client.check_deployed_processors()\n"
        f"print(client.check_deployed_processor_ocrd_tool({DUMMY!r})['executable'])\n"
        f"job = client.send_processing_job_request({DUMMY!r}, dict(path_to_mets={str(local)!r},"
        " input_file_grps=['OCR-D-IMG'], output_file_grps=['OCR-D-C'], parameters={}))\n"
        "print(client.poll_job_status(job))\n"
    )
    run = ["network", "client", "workflow", "run", "-m", local, "-w", workflow]

    said, by_class = commands(
        ocrd_bin, [*run, "--page-wise", "--block"], env=client_environment, then=script
    )

    assert "Workflow succeeded" in said
    assert 'USE="OCR-D-B"' in local.read_text()
    assert DUMMY in by_class
    assert "success" in by_class.lower()


# Workspaces and documents


def test_a_workspace_becomes_a_searchable_pdf_and_gets_its_words(
    api: Api, workspace: dict[str, Any], ocrd_stack: Stack
) -> None:
    with ocrd_stack.client() as http:
        answer = http.post(
            "/v1/jobs",
            files={
                "workspace": (None, workspace["workspace_id"]),
                "languages": (None, "deu"),
            },
        )
        assert answer.status_code == 202, answer.text
        job = wait_for_end(http, answer.json())
        assert job["state"] == "succeeded"
        assert job["input"]["pages"] == 2
        assert http.get(f"/v1/jobs/{job['id']}/pdf").content.startswith(b"%PDF")

    archive = api.download(workspace)
    names = archive.namelist()
    for group in ("OCR-D-OCR-HOCR", "OCR-D-OCR-ALTO", "OCR-D-OCR-PAGE"):
        assert len([name for name in names if f"/{group}/" in name]) == 2, names
    assert len(text_of(archive, "OCR-D-OCR-PAGE").split()) > 100


def test_the_example_of_the_how_to_guide_runs(ocrd_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "kant.ocrd.zip").write_bytes(bag(KANT, "kant"))

    page = ROOT / "docs" / "how-to" / "ocrd.md"
    said = run_page(page, "tests/ocrd/test_end_to_end.py", ocrd_stack, tmp_path)

    assert said.splitlines()[0] == "SUCCESS", said
    with zipfile.ZipFile(tmp_path / "kant-ocr.ocrd.zip") as archive:
        assert len(text_of(archive, "OCR-D-OCR").split()) > 50


def test_a_deleted_workspace_is_not_found(api: Api, workspace: dict[str, Any]) -> None:
    address = f"/workspace/{workspace['workspace_id']}"

    assert api.http.delete(address).status_code == 200

    assert api.http.get(address).status_code == 410
    assert api.http.delete(address).status_code == 410


def test_the_command_line_does_the_same(ocrd_stack: Stack, tmp_path: Path, ocrd_bin: Path) -> None:
    archive = tmp_path / "kant.ocrd.zip"
    archive.write_bytes(bag(KANT, "kant"))

    def command(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ocr_tasks.cli", "ocrd", *arguments],
            env=ocrd_stack.environment | {"OCR_URL": ocrd_stack.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert DUMMY in command("processors")
    workspace_id = command("workspace", "create", archive).split()[0]
    run = ("run", DUMMY, "-w", workspace_id, "-I", "OCR-D-IMG", "-O", "OCR-D-X", "--block")
    assert command("status", command(*run).strip()).startswith("SUCCESS")
    command("workspace", "get", workspace_id, "-o", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as found:
        assert any("OCR-D-X/" in name for name in found.namelist())
