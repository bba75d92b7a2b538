"""The built-in processor on a stack without settings, where the worker for documents runs it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import SIX_PAGES, Stack, submit, wait_for_end
from tests.ocrd.test_end_to_end import KANT, OURS, PAGES, Api, text_of

pytestmark = pytest.mark.acceptance


@pytest.fixture
def api(stack: Stack) -> Iterator[Api]:
    found = Api(stack)
    yield found
    found.http.close()


def test_a_workspace_is_processed_on_a_default_stack(api: Api, http: httpx.Client) -> None:
    assert api.http.get("/processor").json() == [OURS]
    assert api.http.get("/discovery").json()["cpu_cores"] >= 1
    parts = http.get("/readyz").json()["parts"]
    assert (parts["workers"], parts["processors"]) == ("ok", "ok")

    workspace = api.upload(KANT)
    run = {"page_id": PAGES[0], "parameters": {"languages": "deu"}}
    job = api.run(OURS, workspace, output_file_grps=["OCR-D-OCR"], **run)

    assert api.end(job) == "SUCCESS", api.log(job)
    assert f"page {PAGES[0]} done" in api.log(job)
    words = text_of(api.download(workspace), "OCR-D-OCR").split()
    assert {"der", "Natur", "Theil"} <= {*words}


def test_documents_and_workspaces_share_the_worker(api: Api, http: httpx.Client) -> None:
    workspace = api.upload(KANT)
    jobs = [
        api.run(OURS, workspace, page_id=page, output_file_grps=["OCR-D-OCR"]) for page in PAGES
    ]
    document = submit(http, SIX_PAGES).json()

    assert wait_for_end(http, document)["state"] == "succeeded"
    assert [api.end(job) for job in jobs] == ["SUCCESS"] * len(PAGES)


def test_an_error_in_a_workspace_fails_only_its_job(api: Api, http: httpx.Client) -> None:
    workspace = api.upload(KANT)
    job = api.run(OURS, workspace, output_file_grps=["OCR-D-OCR"], parameters={"languages": "tlh"})

    assert api.end(job) == "FAILED"
    assert "not installed: tlh" in api.log(job)
    assert http.get("/readyz").json()["status"] == "ready"
