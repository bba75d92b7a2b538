"""T10 and cases 103 to 105: responses are safe and complete, and results are unchanged."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pikepdf
import pytest

from tests import documents
from tests.conftest import Stack, submit, wait_for_end
from tests.hostile import files
from tests.hostile.outcomes import folder_of, refused
from web.app import create_app

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("hostile")]


@pytest.fixture(scope="module")
def done(stack: Stack) -> Iterator[dict[str, Any]]:
    """A finished job."""
    with stack.client() as http:
        yield wait_for_end(http, submit(http, ("a.pdf", documents.scan("harmless"))).json())


def addresses() -> list[str]:
    """Returns all paths that can be downloaded, with `{job_id}` in place of the job ID."""
    found = []
    for rule in create_app().url_map.iter_rules():
        if "GET" in (rule.methods or ()) and not rule.rule.startswith(("/docs/api", "/static")):
            address = re.sub(r"<(?:\w+:)?page>", "1", rule.rule)
            address = address.replace("/archive", "/archive?id=<job_id>")
            names = ("pdf", "text", "hocr", "alto", "json") if "<artifact>" in address else ("",)
            found += [
                address.replace("<artifact>", name).replace("<job_id>", "{job_id}")
                for name in names
            ]
    return found


@pytest.mark.parametrize("address", addresses())
def test_no_response_is_executed_by_a_browser(
    http: httpx.Client, done: dict[str, Any], address: str
) -> None:
    answer = http.get(address.format(job_id=done["id"]))
    kind = answer.headers["Content-Type"].partition(";")[0]

    assert answer.status_code in (200, 204, 404, 422), answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    # Pages of this project contain nothing of documents.
    if kind == "text/html" and answer.content:
        assert "script-src 'self'" in policy
        assert not re.search("unsafe-(inline|hashes)|'unsafe-eval'", policy)
    else:
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
    if address.endswith(("/pdf", "}/text", "}/hocr", "/alto", "/json")):
        assert answer.headers["Content-Disposition"].startswith("attachment")


def test_error_responses_are_safe_too(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs/<script>alert(1)</script>")

    problem = refused(answer, 404, answer.json()["code"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "\r" not in problem["instance"]


def test_case_103_a_result_was_deleted_manually(stack: Stack, http: httpx.Client) -> None:
    job = wait_for_end(http, submit(http, ("a.pdf", documents.scan("gone"))).json())
    (result,) = folder_of(stack, job).glob("runs/*/result.pdf")
    result.unlink()

    refused(http.get(f"{job['links']['self']}/pdf"), 410, "result_gone")
    assert http.get(f"{job['links']['self']}/text").status_code == 200


@pytest.mark.parametrize("read_before", [False, True])
def test_case_104_a_result_with_a_changed_bit(
    stack: Stack, http: httpx.Client, read_before: bool
) -> None:
    seen = len(stack.log.read_text())
    job = wait_for_end(http, submit(http, ("a.pdf", documents.scan("flipped"))).json())
    link = f"{job['links']['self']}/pdf"
    (result,) = folder_of(stack, job).glob("runs/*/result.pdf")
    if read_before:
        assert http.get(link).status_code == 200
    content = bytearray(result.read_bytes())
    content[len(content) // 2] ^= 1
    result.write_bytes(content)

    for asked in ({}, {"Range": "bytes=0-9"}):
        refused(http.get(link, headers=asked), 500, "result_corrupt")
    assert "does not match its recorded checksum" in stack.log.read_text()[seen:]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"number": 1}'])
def test_case_104_the_words_of_a_page_are_damaged(
    stack: Stack, http: httpx.Client, content: bytes
) -> None:
    job = wait_for_end(http, submit(http, ("a.pdf", documents.scan("words"))).json())
    page = folder_of(stack, job) / "pages" / "000001"
    for name in ("page.json", "summary.json"):
        (page / name).write_bytes(content)

    link = f"{job['links']['self']}/pages"
    for address in (f"{link}/1/text", f"{link}/1/hocr", link):
        refused(http.get(address), 500, "result_corrupt")


def test_case_105_a_job_is_deleted_while_its_result_is_downloaded(
    stack: Stack, http: httpx.Client
) -> None:
    large = files.with_text("large")
    noise = files.image(large, zlib.compress(os.urandom(9_000_000)), 3000, 3000)
    large.pages[0].Resources.XObject = pikepdf.Dictionary(Im0=noise)
    sent = {"optimize": "0", "output_type": "pdf"}
    job = wait_for_end(http, submit(http, ("a.pdf", documents.saved(large)), **sent).json())
    (pdf,) = [row for row in job["artifacts"] if row["name"] == "pdf"]
    assert pdf["bytes"] > 5_000_000

    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as client:
        request = f"GET {pdf['href']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        client.sendall(request.encode())
        with client.makefile("rb") as answer:
            head = [answer.readline() for _ in range(3)]
            assert b" 200 " in head[0]
            assert http.delete(job["links"]["self"]).status_code == 204
            assert not folder_of(stack, job).exists()
            body = answer.read().partition(b"\r\n\r\n")[2]
    assert hashlib.sha256(body).hexdigest() == pdf["sha256"]
