"""Results of several jobs as one ZIP."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import httpx
import pytest

from tests import documents
from tests.conftest import Stack, submit, wait_for_end
from tests.hostile.outcomes import refused

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def read(stack: Stack) -> list[dict[str, Any]]:
    """Processes documents; two of their names differ only in upper case."""
    with stack.client() as http:
        sent = [
            submit(http, (name, documents.scan(word))).json()
            for name, word in (
                ("scan.pdf", "garden"),
                ("Scan.PDF", "kitchen"),
                ("Dr. Müller: 1|2.pdf", "root"),
            )
        ]
        return [wait_for_end(http, job) for job in sent]


def archive(http: httpx.Client, ids: list[str], *artifacts: str) -> httpx.Response:
    return http.get("/v1/archive", params={"id": ids, "artifact": artifacts})


def ids_of(jobs: list[dict[str, Any]]) -> list[str]:
    return [job["id"] for job in jobs]


def test_documents_are_downloaded_as_one_zip_with_distinct_names(
    http: httpx.Client, read: list[dict[str, Any]]
) -> None:
    answer = archive(http, [*ids_of(read), read[0]["id"]])

    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="documents.zip"'
    packed = zipfile.ZipFile(io.BytesIO(answer.content))
    assert packed.testzip() is None
    assert packed.namelist() == ["scan.pdf", "Scan (2).pdf", "Dr. Müller_ 1_2.pdf"]
    for job, entry in zip(read, packed.infolist(), strict=True):
        assert packed.read(entry) == http.get(f"/v1/jobs/{job['id']}/pdf").content
        assert entry.compress_type == zipfile.ZIP_STORED


def test_other_results_can_be_added_to_the_zip(
    http: httpx.Client, read: list[dict[str, Any]]
) -> None:
    packed = zipfile.ZipFile(io.BytesIO(archive(http, ids_of(read)[:2], "text", "alto").content))

    assert packed.namelist() == ["scan.txt", "scan.alto.xml", "Scan (2).txt", "Scan (2).alto.xml"]
    assert b"garden" in packed.read("scan.txt")
    assert b"kitchen" in packed.read("Scan (2).txt")
    assert packed.getinfo("scan.alto.xml").compress_type == zipfile.ZIP_DEFLATED


def test_the_request_line_has_space_for_a_hundred_ids(
    http: httpx.Client, read: list[dict[str, Any]]
) -> None:
    answer = archive(http, [job["id"] for _ in range(50) for job in read[:2]])

    assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 2


def test_errors_are_reported_before_anything_is_sent(
    http: httpx.Client, read: list[dict[str, Any]]
) -> None:
    good = read[0]["id"]
    refused(archive(http, []), 400, "malformed_request")
    refused(archive(http, [good] * 101), 400, "malformed_request")
    refused(archive(http, [good], "docx"), 400, "malformed_request")
    assert UNKNOWN in refused(archive(http, [good, UNKNOWN]), 404, "job_not_found")["detail"]
    running = submit(http, ("b.pdf", documents.scan("b")), title="fault: gate").json()
    assert (
        refused(archive(http, [good, running["id"]]), 409, "job_not_finished")["job"]
        == running["id"]
    )
    http.post(running["links"]["cancel"])
    refused(archive(http, [running["id"], good]), 409, "job_without_result")
    silent = wait_for_end(
        http, submit(http, ("a.pdf", documents.scan("a")), sidecar="false").json()
    )
    refused(archive(http, [silent["id"]], "text"), 404, "artifact_not_found")
