"""Hostile and odd requests: what is refused, with which code, and that nothing is left of it."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = pytest.mark.acceptance

PNG = documents.encoded(documents.picture("picture"), "PNG", dpi=(150, 150))


@pytest.fixture(autouse=True)
def nothing_is_left(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that does not submit on purpose leaves no file and no job."""
    files, jobs = _footprint(stack)
    yield
    if "accepts" in request.node.name:
        return

    def nothing_new() -> bool:
        now, submitted = _footprint(stack)
        return now <= files and submitted == jobs  # what a test before deleted may go meanwhile

    wait_until(nothing_new, 10)


def _footprint(stack: Stack) -> tuple[set[Path], int]:
    files = {p for top in ("uploads", "jobs") for p in (stack.data_dir / top).glob("*/*")}
    with stack.client() as http:
        metrics = http.get("/metrics").text
    (submitted,) = [x for x in metrics.splitlines() if x.startswith("ocr_jobs_submitted_total")]
    return files, int(float(submitted.split()[-1]))


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["advice"]
    for leak in ("Traceback", "/ocr_tasks/", "upload-0", "site-packages"):
        assert leak not in answer.text
    return problem


DOCUMENTS = {
    "an empty file": (b"", 422, "empty_file"),
    "one byte": (b"%", 415, "unsupported_type"),
    "HTML with a PDF header": (b"%PDF-1.7\n<html><body>hi</body></html>", 422, "pdf_invalid"),
    "PostScript": (b"%!PS-Adobe-3.0\nshowpage\n", 415, "unsupported_type"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "unsupported_type"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_type"),
    "a program": (b"\x7fELF\x02\x01\x01" + b"\0" * 100, 415, "unsupported_type"),
    "a ZIP": (b"PK\x03\x04" + b"\0" * 100, 415, "unsupported_type"),
    "text": (b"Dear Sir or Madam", 415, "unsupported_type"),
    "a PDF with a password": (documents.encrypted("user"), 422, "pdf_encrypted"),
    "a PDF that forbids changes": (documents.encrypted(""), 422, "pdf_encrypted"),
    "a signed PDF": (documents.signed(), 422, "pdf_signed"),
    "a dynamic form": (documents.dynamic_form(), 422, "pdf_dynamic_form"),
    "no pages": (documents.no_pages(), 422, "no_pages"),
    "20,000 pages": (documents.many_pages(20_000), 422, "too_many_pages"),
    "a page tree that loops": (documents.looping_tree(), 422, None),
    "deeply nested arrays": (documents.nested_arrays(100_000), 422, None),
    "a page of 200 inches": (
        documents.saved(documents.blank_pdf(box=(0, 0, 200 * 72, 300))),
        422,
        "page_too_large",
    ),
    "a page made large by its unit": (
        documents.saved(documents.blank_pdf(UserUnit=75_000)),
        422,
        "page_too_large",
    ),
    "a page of nonsense": (
        documents.saved(documents.blank_pdf(box=(0, 0, 10**9, 10**9))),
        422,
        "page_too_large",
    ),
    "a PNG of 100,000 by 100,000": (documents.huge_png(100_000, 100_000), 422, "image_too_large"),
    "such an image in a PDF": (
        documents.huge_image_in_pdf(100_000, 100_000),
        422,
        "image_too_large",
    ),
    "a truncated PNG": (PNG[: len(PNG) // 2], 422, "image_invalid"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_cannot_be_read_is_refused(http: httpx.Client, name: str) -> None:
    content, status, code = DOCUMENTS[name]
    answer = submit(http, ("document.pdf", content))
    refused(answer, status, code or answer.json()["code"])


def test_a_truncated_pdf_is_refused_or_repaired_accepts(http: httpx.Client) -> None:
    whole = documents.scan("truncated", "document")
    answer = submit(http, ("cut.pdf", whole[: len(whole) * 2 // 3]))
    if answer.status_code == 422:
        refused(answer, 422, answer.json()["code"])
        assert answer.json()["code"] in ("pdf_invalid", "no_pages")
    else:
        assert wait_for_end(http, answer.json())["state"] == "succeeded"


def test_the_bad_one_of_several_files_is_named(http: httpx.Client) -> None:
    answer = submit(http, ("a.png", PNG), ("b.pdf", b""), ("c.png", PNG))

    assert refused(answer, 422, "empty_file")["detail"].startswith("File 2 of 3")


def test_a_signed_pdf_is_read_if_the_signature_may_go_accepts(http: httpx.Client) -> None:
    job = submit(http, ("signed.pdf", documents.signed()), allow_signed="true").json()

    assert wait_for_end(http, job)["state"] == "succeeded"


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("scan.png", documents.scan("picture"), "application/pdf"),
        ("scan.pdf", PNG, "image/png"),
        ("scan", PNG, "image/png"),
    ],
    ids=["PDF named png", "PNG named pdf", "no ending"],
)
def test_content_decides_and_not_the_name_accepts(
    http: httpx.Client, name: str, content: bytes, media_type: str
) -> None:
    job = submit(http, (name, content)).json()
    assert job["input"]["media_type"] == media_type
    assert wait_for_end(http, job)["state"] == "succeeded"
    assert "picture" in text_of(http.get(f"{job['links']['self']}/pdf").content)


NAMES = {
    "../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "/absolute.pdf": "absolute.pdf",
    "a\u202egpj.exe": "agpj.exe",
    "x" * 300 + ".pdf": "x" * 196 + ".pdf",
    "شهادة.pdf": "شهادة.pdf",
    "...": "document",
    "<script>.pdf": "<script>.pdf",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_label_only_accepts(http: httpx.Client, stack: Stack, name: str) -> None:
    job = submit(http, (name, PNG)).json()
    link = job["links"]["self"]

    assert job["input"]["name"] == NAMES[name]
    assert wait_for_end(http, job)["state"] == "succeeded"
    disposition = http.get(f"{link}/pdf").headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename")
    assert not [character for character in disposition if ord(character) < 32]
    assert not [p for p in stack.data_dir.rglob("*") if "passwd" in p.name or ".ini" in p.name]


# Options


OPTIONS = {
    "languages": ["../../x", "e", "x" * 40, "osd", "eng+../y", "a b;c"],
    "mode": ["default", "SKIP", "1"],
    "rotate_pages": ["perhaps", "2"],
    "deskew": ["yes please"],
    "clean": ["-1"],
    "remove_background": ["nil"],
    "output_type": ["pdfa-1", "none", "docx"],
    "optimize": ["4", "-1", "1.5", "NaN", "true"],
    "pages": ["0", "5-1", "1-20000000", "x", "1;2", "1-", "1," * 5000, "7", "99-end"],
    "page_segmentation": ["0", "2", "14", "auto"],
    "image_dpi": ["0", "-1", "1000000000", "NaN", "1e3x"],
    "title": ["nul\0", "line\nbreak", "x" * 10_000, "😀"],
    "author": ["\x1b[31mred"],
    "subject": ["\u202e\ue000"],
    "keywords": ["k" * 2000],
    "sidecar": ["/etc/passwd"],
    "on_page_error": ["ignore"],
    "priority": ["urgent"],
    "allow_signed": ["sure"],
}


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option, values in OPTIONS.items() for value in values],
    ids=lambda text: repr(text)[:30],
)
def test_a_wrong_option_is_refused_and_named(http: httpx.Client, option: str, value: str) -> None:
    problem = refused(submit(http, ("a.png", PNG), **{option: value}), 422, "invalid_options")

    assert any(row["pointer"].startswith(f"#/{option}") for row in problem["errors"])


def test_each_option_has_a_wrong_value_here() -> None:
    from ocr_tasks.options import JobOptions

    assert OPTIONS.keys() == JobOptions.model_fields.keys()


@pytest.mark.parametrize(
    "name",
    [
        *("nosuch", "plugins", "tesseract_config", "user_words", "user_patterns", "unpaper_args"),
        *("input_file", "output_file", "output_folder", "work_folder", "keep_temporary_files"),
        *("jobs", "use_threads", "max_image_mpixels", "verbose", "extra_attrs", "x" * 200),
    ],
)
def test_an_option_that_is_not_on_the_list_is_refused(http: httpx.Client, name: str) -> None:
    problem = refused(submit(http, ("a.png", PNG), **{name: "/tmp/x.py"}), 422, "invalid_options")

    assert problem["errors"][0]["detail"] == "there is no such option"


def test_an_unknown_language_is_refused_with_what_is_installed(http: httpx.Client) -> None:
    problem = refused(submit(http, ("a.png", PNG), languages="tlh"), 422, "language_unavailable")

    assert problem["missing"] == ["tlh"]
    assert {"deu", "eng"} <= set(problem["installed"])


@pytest.mark.parametrize("other", ["deskew", "remove_background"])
def test_contradictions_are_refused(http: httpx.Client, other: str) -> None:
    answer = submit(http, ("a.png", PNG), **{"mode": "redo", other: "true"})

    assert "mode=force" in refused(answer, 422, "invalid_options")["detail"]


def test_an_option_sent_twice_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", data={"mode": ["skip", "redo"]}, files={"file": ("a", PNG)})

    refused(answer, 422, "invalid_options")


def test_languages_are_taken_repeated_and_joined_accepts(http: httpx.Client) -> None:
    for sent in (["deu", "eng"], "deu+eng", "deu,eng"):
        job = submit(http, ("a.png", PNG), languages=sent).json()
        assert job["options"]["languages"] == ["deu", "eng"]
        http.delete(job["links"]["self"])


# Requests

PDF_BODY = {"Content-Type": "application/pdf"}
FORM_BODY = {"Content-Type": "multipart/form-data"}
GZIP_BODY = {"Content-Encoding": "gzip"}


def test_a_request_without_a_file_is_refused(http: httpx.Client) -> None:
    empty = http.post("/v1/jobs", files={"mode": (None, "skip")})
    refused(empty, 400, "missing_file")


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        ("malformed_request", {"json": {"file": "x"}}),
        (
            "malformed_request",
            {"content": b"%PDF-1.7", "headers": {"Content-Type": "application/pdf"}},
        ),
        ("missing_file", {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}),
        ("malformed_request", {"files": {"document": ("a.png", PNG)}}),
        ("malformed_request", {"files": {"file": (None, "text")}}),
        (
            "malformed_request",
            {"files": {"file": ("a.png", PNG)}, "headers": {"Content-Encoding": "gzip"}},
        ),
    ],
    ids=["JSON", "bare PDF", "no boundary", "other field", "text", "gzip"],
)
def test_a_request_that_is_no_such_form_is_refused(
    http: httpx.Client, code: str, sent: dict[str, Any]
) -> None:
    refused(http.post("/v1/jobs", **sent), 400, code)


def test_too_many_parts_are_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", files=[("file", (f"{n}.png", PNG)) for n in range(700)])
    refused(answer, 413, "too_many_files")


def test_long_text_fields_are_refused(http: httpx.Client) -> None:
    refused(submit(http, ("a.png", PNG), title="x" * 1_000_000), 413, "too_many_files")


def test_a_body_over_the_limit_is_refused(http: httpx.Client) -> None:
    answer = submit(http, ("large.pdf", b"%PDF-" + b"\0" * (42 * 1024 * 1024)))
    refused(answer, 413, "upload_too_large")


@pytest.mark.parametrize("bad", ["file", "option"])
def test_a_refusal_leaves_the_connection_usable(http: httpx.Client, bad: str) -> None:
    content = b"%PDF-" if bad == "file" else PNG
    sent = {"mode": "nonsense"} if bad == "option" else {}
    for _ in range(3):
        assert submit(http, ("a", content + b"\0" * 3_000_000), **sent).status_code == 422


def test_a_body_over_the_limit_is_refused_without_a_length_too(http: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%PDF-'
        for _ in range(60):
            yield b"\0" * 1024 * 1024
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        answer = http.post("/v1/jobs", content=body(), headers=kind)
    except httpx.TransportError:
        pass  # the server need not read to the end only to say no
    else:
        refused(answer, 413, "upload_too_large")
    assert http.get("/healthz").status_code == 200


def test_a_client_that_goes_away_leaves_nothing(stack: Stack) -> None:
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%PDF-'
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(head + b"\0" * 3_000_000)
        wait_until(lambda: list((stack.data_dir / "uploads").glob("*/*")))


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/x", 404, "job_not_found"),
        ("GET", "/v1/jobs/..%2f..%2fetc", 404, None),
        ("GET", "/v1/jobs/00000000-0000-4000-8000-000000000000", 404, "job_not_found"),
        ("GET", "/v1/jobs/00000000-0000-4000-8000-000000000000/docx", 404, "not_found"),
        ("POST", "/v1/jobs/x/cancel", 404, "job_not_found"),
        ("DELETE", "/v1/jobs/x", 404, "job_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "malformed_request"),
        ("GET", "/v1/jobs?state=lost", 400, "malformed_request"),
        ("GET", "/v1/jobs?cursor=x", 400, "malformed_request"),
        ("GET", "/static/../app.py", 404, "not_found"),
    ],
)
def test_a_wrong_address_is_answered_as_a_problem(
    http: httpx.Client, method: str, address: str, status: int, code: str | None
) -> None:
    answer = http.request(method, address)
    refused(answer, status, code or answer.json()["code"])
    if status == 405:
        assert "POST" in answer.headers["Allow"]


def test_other_sites_get_no_leave_to_read(http: httpx.Client) -> None:
    answer = http.options("/v1/jobs", headers={"Origin": "https://evil.example"})

    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_several_formats_become_one_document_accepts(http: httpx.Client) -> None:
    tiff = io.BytesIO()
    frames = [documents.picture(word, "1") for word in ("second", "third")]
    frames[0].save(
        tiff, "TIFF", save_all=True, append_images=frames[1:], compression="group4", dpi=(150, 150)
    )
    job = submit(
        http, ("a.png", PNG), ("b.tif", tiff.getvalue()), ("c.pdf", documents.scan("fourth"))
    ).json()

    assert job["input"]["pages"] == 4
    assert job["input"]["media_type"] == "multipart/mixed"
    assert wait_for_end(http, job)["state"] == "succeeded"
    pages = http.get(f"{job['links']['self']}/text").text.split("\f")
    for word, page in zip(("picture", "second", "third", "fourth"), pages, strict=False):
        assert word in page
