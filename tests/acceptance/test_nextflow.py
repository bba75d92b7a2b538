"""A Nextflow script that runs processors with OCR-D's Web API, on a stack that requires tokens.

A stand-in for `nextflow` makes the requests of such a script: a chain of POST /processor/….
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_tasks.ocrd.zip import ocrd_zip
from tests.acceptance.conftest import make_token
from tests.conftest import DATA, Stack, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("closed")]

OURS = "ocrd-ocr-tasks-recognize"

SCRIPT = """nextflow.enable.dsl = 2
params.steps = ['OCR-D-OCR']
workflow { recognize(params.steps) }
"""

STAND_IN = """#!%s
import json, sys, time, urllib.request

options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
with open(options["-params-file"]) as file:
    params = json.load(file)
address = options["--processing_server_address"]

def request(path, body=None):
    headers = {"Authorization": "Bearer " + params["token"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request("http://" + address + path, data, headers)
    with urllib.request.urlopen(sent) as answer:
        return json.load(answer)

source = "OCR-D-IMG"
for group in params["steps"]:
    job = request("/processor/%s", {
        "workspace_id": options["--workspace_id"],
        "input_file_grps": [source],
        "output_file_grps": [group],
        "page_id": params["page_id"],
    })
    while job["state"] not in ("SUCCESS", "FAILED", "CANCELLED"):
        time.sleep(0.1)
        job = request("/processor/%s/" + job["job_id"])
    print(job["job_id"], group, job["state"], flush=True)
    assert job["state"] == "SUCCESS"
    source = group
"""


@contextlib.contextmanager
def nextflow_worker(stack: Stack, folder: Path) -> Iterator[None]:
    program = folder / "nextflow"
    program.write_text(STAND_IN % (sys.executable, OURS, OURS))
    program.chmod(0o755)
    command = [sys.executable, "-m", "ocr_tasks.cli", "worker", "--processors", "nextflow"]
    environment = stack.environment | {"OCR_OCRD_PATH": str(folder), "OCR_WORKER_PROCESSES": "1"}
    with stack.log.open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_a_nextflow_script_runs_a_chain_of_processors(closed: Stack, tmp_path: Path) -> None:
    token, other = make_token(closed, "ocrd"), make_token(closed, "ocrd")
    bag = b"".join(ocrd_zip.pack(DATA / "kant", "mets.xml", "kant"))
    with client(closed, token) as http, nextflow_worker(closed, tmp_path):
        workflow = wait_until(
            lambda: (
                http.post("/workflow", files={"workflow": SCRIPT.encode()})
                .json()
                .get("workflow_id")
            )
        )
        kind = {"Content-Type": "application/vnd.ocrd+zip"}
        workspace = http.post("/workspace", content=bag, headers=kind).json()["workspace_id"]
        steps = ["OCR-D-ONE", "OCR-D-TWO"]
        body = {
            "workspace_id": workspace,
            "workflow_parameters": {"steps": steps, "page_id": "PHYS_0017"},
        }

        run = http.post(f"/workflow/{workflow}", json=body).json()

        ((job,),) = run["processing_job_ids"].values()
        end = wait_until(lambda: ended(http, job), 120)
        log = http.get(f"/processor/log/{job}").text
        assert end == "SUCCESS", log
        rows = [line.split() for line in log.splitlines()]
        assert [row[1:] for row in rows] == [[step, "SUCCESS"] for step in steps]
        # The jobs of the script belong to the client that started it.
        found = http.get(f"/processor/job/{rows[1][0]}").json()
        assert (found["workspace_id"], found["page_id"]) == (workspace, "PHYS_0017")
        assert found["input_file_grps"] == steps[:1]
    with client(closed, other) as http:
        assert http.get(f"/processor/job/{rows[1][0]}").status_code == 404


def client(stack: Stack, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"{stack.url}/ocrd", headers=headers, timeout=60)


def ended(http: httpx.Client, job_id: str) -> Any:
    state = http.get(f"/processor/job/{job_id}").json()["state"]
    return state if state in ("SUCCESS", "FAILED", "CANCELLED") else None
