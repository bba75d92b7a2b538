"""Profiles that can be built here: a worker with OCR-D's processors, a device of the swarm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import bags
from tests.compose.stack import Compose, gone_afterwards
from tests.conftest import wait_until

PROCESSORS = {
    *("ocrd-dummy", "ocrd-ocr-tasks-recognize"),
    *("ocrd-tesserocr-segment", "ocrd-tesserocr-recognize"),
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    stack = Compose(tmp_path_factory.mktemp("profiles") / "ocr-tasks", "ocr-tasks-profiles")
    stack.set(COMPOSE_PROFILES="ocrd,swarm")
    with gone_afterwards(stack), httpx.Client(base_url=stack.url, timeout=90) as client:
        stack.up("web", "processors", "device")
        wait_until(lambda: set(client.get("/ocrd/processor").json()) == PROCESSORS, 120)
        yield client


def test_a_device_processes_pages(http: httpx.Client) -> None:
    wait_until(lambda: "ocr_swarm_devices 1.0" in http.get("/metrics").text)


def test_processors_process_a_page_of_a_workspace(http: httpx.Client) -> None:
    made = http.post("/ocrd/workspace", files={"workspace": ("kant.zip", bags.kant().build())})
    workspace = made.json()["workspace_id"]
    parameters: dict[str, dict[str, Any]] = {
        "ocrd-tesserocr-recognize": {"segmentation_level": "region", "model": "deu"},
        "ocrd-ocr-tasks-recognize": {},
    }
    for processor, chosen in parameters.items():
        asked = {
            "workspace_id": workspace,
            "input_file_grps": ["OCR-D-IMG"],
            "output_file_grps": [f"OUT-{processor}"],
            "page_id": "PHYS_0017",
            "parameters": chosen,
        }
        job = http.post(f"/ocrd/processor/run/{processor}", json=asked).json()

        def ended(name: str = job["job_id"]) -> Any:
            found = http.get(f"/ocrd/processor/job/{name}").json()
            return found if found["state"] in ("SUCCESS", "FAILED") else None

        assert wait_until(ended, 120)["state"] == "SUCCESS"
