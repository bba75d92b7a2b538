"""Headers and content of downloads, from a folder and from a bucket, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import parse_options_header
from werkzeug.test import TestResponse

from ocr_tasks.jobs import leases
from ocr_tasks.model import Artifact, Outcome
from ocr_tasks.storage import layout, store
from tests.ocr_tasks.jobs.test_lifecycle import submit
from tests.web.conftest import Configure
from web.http import downloads

pytestmark = pytest.mark.usefixtures("service")

CONTENT = bytes(range(256)) * 4
ETAG = hashlib.sha256(CONTENT).hexdigest()
CHANGED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class InBucket:
    """A result in a bucket (`store.Streamed`), which is sent a few bytes at a time."""

    size, etag, changed = len(CONTENT), ETAG, CHANGED

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        for place in range(start, stop, 100):
            yield CONTENT[place : min(place + 100, stop)]


@pytest.fixture(params=["folder", "bucket"])
def result(
    request: pytest.FixtureRequest, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> tuple[FlaskClient, str]:
    """Returns a client, and the URL of a result."""
    http = configure()
    job_id = submit()
    leases.acquire(job_id, "run", "host:1:2")
    path = layout.job(job_id).artifact("run", "pdf")
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    found = Artifact("pdf", "application/pdf", len(CONTENT), ETAG)
    assert leases.commit(job_id, "run", Outcome("run", (found,), 7, {}, {}))
    if request.param == "bucket":
        monkeypatch.setattr(store.get(), "open_artifact", lambda *_: InBucket(), raising=True)
    return http, f"/v1/jobs/{job_id}/pdf"


def get(result: tuple[FlaskClient, str], **headers: str) -> TestResponse:
    http, url = result
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    return http.get(url, headers=sent, buffered=True)


def test_a_result_is_cached_privately_and_is_revalidated(
    result: tuple[FlaskClient, str],
) -> None:
    for response in (get(result), get(result, Range="bytes=0-9"), get(result, If_None_Match=ETAG)):
        assert response.headers["Cache-Control"] == "private, no-cache"


def test_a_result_is_sent_in_full_with_its_name_and_checksum(
    result: tuple[FlaskClient, str],
) -> None:
    response = get(result)

    assert (response.status_code, response.data) == (200, CONTENT)
    assert response.headers["Content-Length"] == "1024"
    assert response.headers["Content-Type"] == "application/pdf"
    assert response.headers["Content-Disposition"] == "attachment; filename=scan.pdf"
    assert response.headers["ETag"] == f'"{ETAG}"'
    assert response.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-104", 5, 105),
        ("bytes=1000-", 1000, 1024),
        ("bytes=-7", 1017, 1024),
        ("bytes=1000-9999", 1000, 1024),
    ],
)
def test_a_range_of_a_result_is_sent_as_requested(
    result: tuple[FlaskClient, str], asked: str, start: int, stop: int
) -> None:
    response = get(result, Range=asked)

    assert (response.status_code, response.data) == (206, CONTENT[start:stop])
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    assert response.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=9-3"])
def test_an_unsatisfiable_range_is_refused(result: tuple[FlaskClient, str], asked: str) -> None:
    response = get(result, Range=asked)

    assert response.status_code == 416
    assert CONTENT not in response.data


@pytest.mark.parametrize(
    ("name", "fallback"),
    [("מסמך.pdf", "document.pdf"), ("📄📄.pdf", "document.pdf"), ("Größe.pdf", "Groe.pdf")],
)
def test_a_name_in_any_script_has_a_fallback(name: str, fallback: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with Flask("x").test_request_context():
        response = downloads.file(tmp_path / "x", "a/b", name, False)
        response.close()
    header = response.headers["Content-Disposition"]

    kind, options = parse_options_header(header)
    assert (kind, options["filename"]) == ("attachment", name)  # `filename*` precedes
    assert f"filename={fallback};" in header


def test_of_several_ranges_the_whole_file_is_sent(result: tuple[FlaskClient, str]) -> None:
    response = get(result, Range="bytes=0-1,3-4")
    assert (response.status_code, len(response.data)) == (200, 1024)


def test_a_range_of_a_changed_result_is_sent_in_full(
    result: tuple[FlaskClient, str],
) -> None:
    same = get(result, Range="bytes=5-9", If_Range=f'"{ETAG}"')
    other = get(result, Range="bytes=5-9", If_Range='"another"')

    assert (same.status_code, same.data) == (206, CONTENT[5:10])
    assert (other.status_code, other.data) == (200, CONTENT)


def test_an_unchanged_result_is_not_sent_again(
    result: tuple[FlaskClient, str],
) -> None:
    response = get(result, If_None_Match=f'"{ETAG}"')

    assert (response.status_code, response.data) == (304, b"")
