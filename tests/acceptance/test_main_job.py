"""The main use case: a scan is uploaded over HTTP, a searchable PDF is downloaded."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pikepdf
import pytest
from lxml import etree
from PIL import Image, ImageDraw, ImageFont

from bench.upload_memory import MIB, Peak, large_pdf, web_processes
from tests import documents
from tests.acceptance.conftest import open_gate
from tests.conftest import DATA, SIX_PAGES, Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

HARD_PAGE = DATA / "huckleberry-finn-p22.pdf"


def picture(text: str) -> bytes:
    image = Image.new("L", (1240, 500), "white")
    ImageDraw.Draw(image).text((100, 150), text, fill=0, font=ImageFont.load_default(80))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", dpi=(150, 150))
    return buffer.getvalue()


def text_of(pdf: bytes) -> str:
    """Returns the text that `pdftotext`, an independent program, extracts from a PDF."""
    return subprocess.run(
        ["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True
    ).stdout.decode()


@pytest.fixture(scope="module")
def done(stack: Stack) -> dict[str, Any]:
    """Returns a finished job of six pages."""
    with stack.client() as http:
        answer = submit(http, SIX_PAGES, languages="eng")
        assert answer.status_code == 202, answer.text
        return wait_for_end(http, answer.json())


def test_the_response_to_an_upload_contains_the_job_and_its_url(http: httpx.Client) -> None:
    answer = submit(http, ("page.png", picture("hello")))

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert int(answer.headers["Retry-After"]) > 0
    assert job["input"]["media_type"] == "image/png"
    assert wait_for_end(http, job)["state"] == "succeeded"


def test_the_text_of_a_scan_is_in_its_pdf(http: httpx.Client, done: dict[str, Any]) -> None:
    assert done["state"] == "succeeded", done
    pdf = http.get(f"/v1/jobs/{done['id']}/pdf")

    found = text_of(pdf.content)
    assert "Project Gutenberg" in found or "the" in found.split()
    with pikepdf.open(io.BytesIO(pdf.content)) as opened:
        assert len(opened.pages) == 6
    text = http.get(f"/v1/jobs/{done['id']}/text").text
    assert text.count("\f") == 5 or text.count("\f") == 6
    assert done["progress"]["percent"] == 100
    assert done["progress"]["pages_done"] == 6


def test_all_formats_contain_the_same_words(http: httpx.Client, done: dict[str, Any]) -> None:
    link = done["links"]["self"]
    pages = http.get(f"{link}/json").json()["pages"]
    words = [w["text"] for page in pages for line in page["lines"] for w in line["words"]]
    hocr = etree.fromstring(http.get(f"{link}/hocr").content)
    alto = etree.fromstring(http.get(f"{link}/alto").content)

    assert len(words) > 500
    in_hocr = ["".join(e.itertext()) for e in hocr.iterfind(".//*[@class='ocrx_word']")]
    in_alto = [e.get("CONTENT") for e in alto.iterfind(".//{*}String")]
    assert in_hocr == words
    assert in_alto == words
    assert [page["page"] for page in pages] == [1, 2, 3, 4, 5, 6]
    word = pages[0]["lines"][0]["words"][0]
    points = [edge * 72 / pages[0]["dpi"] for edge in word["box"]]
    assert word["box_pt"] == pytest.approx(points, abs=0.01)
    assert 0 <= word["confidence"] <= 1


def test_async_result_has_the_result_too(stack: Stack, done: dict[str, Any]) -> None:
    program = (
        "import sys, json; from celery.result import AsyncResult; from ocr_tasks.app import app\n"
        "r = AsyncResult(sys.argv[1], app=app)\n"
        "print(json.dumps([r.state, r.result['pages'], sorted(r.result)]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, done["id"]],
        env=stack.environment,
        capture_output=True,
        check=True,
    ).stdout
    state, pages, fields = json.loads(said)
    assert (state, pages) == ("SUCCESS", 6)
    assert {"artifacts", "seconds", "versions", "warnings", "failed_pages"} <= set(fields)


def test_progress_is_reported_per_page_and_finished_pages_are_available(
    stack: Stack, http: httpx.Client
) -> None:
    document = ("scan.pdf", documents.scan("one", "two", "three"))
    job = submit(http, document, title="fault: gate").json()
    link = job["links"]["self"]
    seen: list[dict[str, Any]] = []

    def pages_done() -> int:
        seen.append(http.get(link, params={"wait": 5}).json())
        return int(seen[-1]["progress"]["pages_done"])

    for number in (1, 2):
        open_gate(stack, job, number)
        wait_until(lambda number=number: pages_done() == number)
        assert (seen[-1]["state"], seen[-1]["stage"]) == ("running", "ocr")
        pages = http.get(f"{link}/pages").json()["pages"]
        assert [row["page"] for row in pages if row["state"] == "done"] == [*range(1, number + 1)]
        assert http.get(f"{link}/pages/{number}/text").text.strip() == ("one", "two")[number - 1]
        assert b"ocr_page" in http.get(f"{link}/pages/{number}/hocr").content
        image = http.get(f"{link}/pages/{number}/image")
        assert image.headers["Content-Type"] == "image/jpeg"
        assert Image.open(io.BytesIO(image.content)).width >= 500
    open_gate(stack, job, 3)
    wait_until(lambda: pages_done() == 3 and seen[-1]["state"] == "succeeded")

    percents = [job["progress"]["percent"] for job in seen]
    assert percents == sorted(percents)
    assert {row["progress"]["pages_done"] for row in seen} >= {1, 2, 3}


def test_each_page_that_counts_as_done_is_listed_with_its_state(
    stack: Stack, http: httpx.Client
) -> None:
    """Page 4 keeps its text, and page 6 waits."""
    job = submit(http, SIX_PAGES, title="fault: gate 6").json()
    link = job["links"]["self"]

    wait_until(lambda: http.get(link).json()["progress"]["pages_done"] == 5)

    rows = http.get(f"{link}/pages").json()["pages"]
    assert [row["state"] for row in rows] == ["done", "done", "done", "kept", "done", "waiting"]
    assert http.get(f"{link}/pages/4/text").text.strip()
    assert http.get(f"{link}/pages/4/image").headers["Content-Type"] == "image/jpeg"
    http.delete(link)


def test_an_unfinished_page_is_a_409_and_an_unknown_one_a_404(
    http: httpx.Client,
) -> None:
    job = submit(http, ("page.png", picture("early")), title="fault: gate").json()
    link = job["links"]["self"]
    early = http.get(f"{link}/pages/1/text")
    assert (early.status_code, early.json()["code"]) == (409, "page_not_ready")
    missing = http.get(f"{link}/pages/2/text")
    assert (missing.status_code, missing.json()["code"]) == (404, "page_not_found")
    result = http.get(f"{link}/pdf")
    assert (result.status_code, result.json()["code"]) == (409, "job_not_finished")
    assert result.json()["state"] in ("queued", "running")
    http.delete(link)


def events(lines: Any) -> Any:
    """Returns the ID and the job of each server-sent event."""
    number = None
    for line in lines:
        if line.startswith("id: "):
            number = line[4:]
        elif line.startswith("data: "):
            yield number, json.loads(line[6:])


def test_events_follow_a_job_to_its_end_and_can_be_resumed(
    stack: Stack, http: httpx.Client
) -> None:
    document = ("scan.pdf", documents.scan("first", "second"))
    job = submit(http, document, title="fault: gate").json()
    link = f"{job['links']['self']}/events"
    first: list[tuple[str, dict[str, Any]]] = []
    open_gate(stack, job, 1)
    with http.stream("GET", link) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        for event in events(stream.iter_lines()):
            first.append(event)
            if event[1]["progress"]["pages_done"] == 1:
                break
    open_gate(stack, job)
    with http.stream("GET", link, headers={"Last-Event-ID": first[-1][0]}) as stream:
        rest = list(events(stream.iter_lines()))

    numbers = [int(number) for number, _ in first + rest]
    assert numbers == sorted(set(numbers))
    assert rest[-1][1]["state"] == "succeeded"
    after = http.get(link, headers={"Last-Event-ID": rest[-1][0]})
    assert after.status_code == 204


def test_polling_an_unchanged_job_is_a_304(http: httpx.Client, done: dict[str, Any]) -> None:
    first = http.get(done["links"]["self"])
    again = http.get(done["links"]["self"], headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert "Retry-After" not in first.headers


def test_prefer_wait_delays_the_response_until_the_end(http: httpx.Client) -> None:
    answer = http.post(
        "/v1/jobs",
        files=[("file", ("page.png", picture("patience")))],
        headers={"Prefer": "respond-async, wait=60"},
    )
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.json()["state"] == "succeeded"


def test_downloads_have_ranges_etags_and_safe_headers(
    http: httpx.Client, done: dict[str, Any]
) -> None:
    link = f"{done['links']['self']}/pdf"
    whole = http.get(link)
    part = http.get(link, headers={"Range": "bytes=0-7"})

    assert part.status_code == 206
    assert part.content == whole.content[:8]
    assert http.get(link, headers={"Range": "bytes=99999999-"}).status_code == 416
    artifact = next(row for row in done["artifacts"] if row["name"] == "pdf")
    assert whole.headers["ETag"] == f'"{artifact["sha256"]}"'
    assert len(whole.content) == artifact["bytes"]
    known = http.get(link, headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status_code == 304
    for name in ("pdf", "hocr", "alto", "json", "text"):
        headers = http.get(f"{done['links']['self']}/{name}").headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["Content-Disposition"].startswith("attachment")


def test_a_download_has_the_name_of_the_upload(http: httpx.Client) -> None:
    job = submit(http, ("Akte Müller – 中文.png", picture("name"))).json()
    wait_for_end(http, job)

    header = http.get(f"{job['links']['self']}/pdf").headers["Content-Disposition"]
    assert "filename*=UTF-8''Akte%20M%C3%BCller%20%E2%80%93%20%E4%B8%AD%E6%96%87.pdf" in header


def test_several_files_become_one_document_in_their_order(http: httpx.Client) -> None:
    job = submit(
        http,
        ("b.png", picture("alpha")),
        HARD_PAGE,
        ("a.png", picture("omega")),
    ).json()

    assert (job["input"]["files"], job["input"]["pages"]) == (3, 3)
    assert wait_for_end(http, job)["state"] == "succeeded"
    pages = http.get(f"{job['links']['self']}/text").text.split("\f")
    assert "alpha" in pages[0]
    assert "omega" in pages[2]


def test_a_large_upload_does_not_use_memory_of_the_web_processes(
    stack: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    document = large_pdf(tmp_path / "large.pdf", 38)
    peaks = [Peak(process) for process in web_processes(stack)]
    before = sum(peak.process.memory_info().rss for peak in peaks)
    for peak in peaks:
        peak.start()

    job = submit(http, document).json()

    for peak in peaks:
        peak.going = False
    assert job["input"]["bytes"] > 38 * MIB
    assert sum(peak.bytes for peak in peaks) - before < 20 * MIB
    http.delete(job["links"]["self"])


def test_a_waiting_job_has_a_queue_position_and_is_cancelled_at_once(http: httpx.Client) -> None:
    page = ("page.png", picture("busy"))
    busy = [
        submit(http, page, title="fault: gate").json() for _ in range((os.cpu_count() or 1) + 1)
    ]
    job = submit(http, ("x.png", picture("wait"))).json()
    assert job["queue_position"] >= 1

    assert http.post(f"{job['links']['self']}/cancel").json()["state"] == "cancelled"
    for other in busy:
        http.delete(other["links"]["self"])


def test_a_deleted_job_is_gone_with_its_files(stack: Stack, http: httpx.Client) -> None:
    job = submit(http, ("page.png", picture("gone")), title="fault: gate").json()
    link = job["links"]["self"]
    wait_until(lambda: http.get(link).json()["state"] == "running")

    assert http.delete(link).status_code == 204
    assert http.delete(link).status_code == 204
    for address in (link, f"{link}/pdf", f"{link}/log", f"{link}/pages/1/text", f"{link}/events"):
        answer = http.get(address)
        assert (answer.status_code, answer.json()["code"]) == (410, "job_deleted")
    assert http.post(f"{link}/retry").status_code == 410
    folder = stack.data_dir / "jobs" / job["id"][:2] / job["id"]
    wait_until(lambda: not folder.exists())
    listed = http.get("/v1/jobs", params={"limit": 200}).json()["jobs"]
    assert job["id"] not in [row["id"] for row in listed]


def test_the_log_of_a_job_is_that_of_ocrmypdf(http: httpx.Client, done: dict[str, Any]) -> None:
    log = http.get(done["links"]["log"])

    assert log.headers["Content-Type"].startswith("text/plain")
    assert "page 4: skipping all processing on this page" in log.text


def test_the_list_can_be_paged_and_filtered(http: httpx.Client, done: dict[str, Any]) -> None:
    found: list[str] = []
    address: str | None = "/v1/jobs?limit=3&state=succeeded"
    while address:
        body = http.get(address).json()
        assert {row["state"] for row in body["jobs"]} <= {"succeeded"}
        found += [row["id"] for row in body["jobs"]]
        address = body["next"]

    assert done["id"] in found
    assert len(found) == len(set(found))


def test_options_and_languages_are_described(http: httpx.Client) -> None:
    schema = http.get("/v1/options").json()
    assert schema["properties"]["mode"]["default"] == "skip"
    assert schema["additionalProperties"] is False
    assert all("description" in row for row in schema["properties"].values())
    languages = http.get("/v1/languages").json()
    codes = {row["code"]: row["name"] for row in languages["languages"]}
    assert codes["deu"] == "German"
    assert "osd" not in codes


def test_health_reports_the_components(http: httpx.Client) -> None:
    assert http.get("/healthz").json()["status"] == "ok"
    ready = http.get("/readyz").json()
    names = ("redis", "storage", "workers", "processors")
    assert ready["parts"] == dict.fromkeys(names, "ok")


def test_metrics_count_jobs_and_pages(http: httpx.Client, done: dict[str, Any]) -> None:
    metrics = http.get("/metrics").text

    values = dict(
        line.rsplit(" ", 1) for line in metrics.splitlines() if line and not line.startswith("#")
    )
    assert float(values["ocr_up"]) == 1
    assert float(values["ocr_pages_done_total"]) >= 6
    assert float(values["ocr_pages_read_total"]) >= 1
    assert float(values["ocr_pages_in_progress"]) >= 0
    assert float(values['ocr_jobs_ended_total{state="succeeded"}']) >= 1
    assert float(values['ocr_job_stage_seconds_total{stage="ocr"}']) > 0
    assert float(values['ocr_workers{kind="documents"}']) == 1


def test_requests_are_counted_over_all_web_processes(
    http: httpx.Client, done: dict[str, Any]
) -> None:
    route = 'ocr_http_requests_total{method="GET",route="/v1/jobs/{job_id}/log",status="200"}'

    def counted() -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(route))

    before = counted()
    for _ in range(20):  # each on its own connection, so that both processes get some
        with httpx.Client(base_url=http.base_url, verify=False) as one:
            assert one.get(f"{done['links']['self']}/log").status_code == 200

    wait_until(lambda: counted() >= before + 20)
    text = http.get("/metrics").text
    assert 'route="/v1/jobs/{job_id}"' in text
    assert done["id"] not in text


def test_the_api_documentation_needs_no_other_hosts(http: httpx.Client) -> None:
    spec = http.get("/openapi.json").json()
    assert spec["openapi"].startswith("3.1")
    form = spec["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert "languages" in form["schema"]["properties"]
    for address in ("/docs", "/docs/api/swagger", "/"):
        page = http.get(address)
        assert page.status_code == 200
        assert "//cdn" not in page.text
        assert 'src="http' not in page.text
        assert 'href="http' not in page.text


def test_the_pdf_on_disk_is_valid(stack: Stack, done: dict[str, Any]) -> None:
    runs = list((stack.data_dir / "jobs" / done["id"][:2] / done["id"] / "runs").iterdir())

    assert len(runs) == 1
    assert sorted(path.name for path in runs[0].iterdir()) == [
        "result.alto.xml",
        "result.hocr",
        "result.json",
        "result.pdf",
        "result.txt",
    ]
    assert not list(Path(stack.data_dir / "uploads").iterdir())
