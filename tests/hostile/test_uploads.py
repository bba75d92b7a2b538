"""Cases 1 to 23 and 29 to 35: uploads. Numbers as in docs/explanation/untrusted-input.md.

A refused request leaves no file and no job. Cases 8 (slow clients) and 36 (repeated requests) are
in tests/acceptance, `test_faults` and `test_takeover`; accepted documents are in `test_running`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import socket
from collections.abc import Callable, Iterator
from http import client as http_client
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests import documents
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, matching, submit, wait_for_end, wait_until
from tests.hostile import files
from tests.hostile.outcomes import code, refused
from tests.ocr_tasks.uploads.test_images import HEIC

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("hostile")]
leaves_nothing = pytest.mark.usefixtures("nothing_is_left")

MIB = 1024 * 1024
PNG = documents.encoded(documents.picture("picture"), "PNG", dpi=(150, 150))

POSTSCRIPT = b"%!PS-Adobe-3.0\n{ } loop\n"
PHOTOSHOP = b"8BPS\0\1" + b"\0" * 6 + b"\0\3\0\0\0\10\0\0\0\10\0\10\0\3" + b"\0" * 100


def box(*edges: float, **page: Any) -> Callable[[], bytes]:
    return lambda: documents.saved(documents.blank_pdf(box=edges or documents.LETTER, **page))


#: Case and file; status and code of the response.
DOCUMENTS: dict[str, tuple[bytes | Callable[[], bytes], int, str]] = {
    "case-1-empty-file": (b"", 422, "empty_file"),
    "case-2-one-byte": (b"%", 415, "unsupported_type"),
    "case-13-PostScript": (POSTSCRIPT, 415, "unsupported_type"),
    "case-13-EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", 415, "unsupported_type"),
    "case-13-SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_type"),
    "case-13-PSD": (PHOTOSHOP, 415, "unsupported_type"),
    "case-13-ICO": (b"\0\0\1\0\1\0\20\20" + b"\0" * 100, 415, "unsupported_type"),
    "case-13-ELF": (b"\x7fELF\x02\x01\x01" + b"\0" * 100, 415, "unsupported_type"),
    "case-13-ZIP": (b"PK\x03\x04" + b"\0" * 100, 415, "unsupported_type"),
    "case-13-text": (b"Dear Sir or Madam", 415, "unsupported_type"),
    "case-14-HTML": (b"%PDF-1.7\n<html><body>hi</body></html>", 422, "pdf_invalid"),
    "case-14-PostScript": (b"%PDF-1.7\n" + POSTSCRIPT, 422, "pdf_invalid"),
    "case-15-header-after-1024-bytes": (
        lambda: b"\n" * 1100 + documents.scan("late"),
        415,
        "unsupported_type",
    ),
    "case-16-password": (lambda: documents.encrypted("user"), 422, "pdf_encrypted"),
    "case-17-no-cross-references": (b"%PDF-1.7\n1 0 obj\n<<", 422, "pdf_invalid"),
    "case-17-truncated-PNG": (PNG[: len(PNG) // 2], 422, "image_invalid"),
    "case-18-no-pages": (documents.no_pages, 422, "no_pages"),
    "case-19-page-tree-loop": (documents.looping_tree, 422, "pdf_invalid"),
    "case-19-depth-20000": (lambda: files.deep_tree(20_000), 422, "pdf_invalid"),
    "case-19-nested-arrays": (lambda: documents.nested_arrays(100_000), 422, "no_pages"),
    "case-20-20000-pages": (lambda: documents.many_pages(20_000), 422, "too_many_pages"),
    "case-20-20000-frames-TIFF": (lambda: files.tiff_of(20_000), 422, "too_many_pages"),
    "case-20-6000-frames-GIF": (lambda: files.gif_of(6_000), 422, "too_many_pages"),
    "case-22-14400-points": (box(0, 0, 14_400, 300), 422, "page_too_large"),
    "case-22-1e9-points": (box(0, 0, 10**9, 10**9), 422, "page_too_large"),
    "case-22-UserUnit": (box(UserUnit=75_000), 422, "page_too_large"),
    "case-23-10-gigapixels-PNG": (lambda: documents.huge_png(10**5, 10**5), 422, "image_too_large"),
    "case-23-4-gigapixels-JPEG": (lambda: files.huge_jpeg(65_500, 65_500), 422, "image_too_large"),
    "case-23-1-terapixel-TIFF": (lambda: files.huge_tiff(10**6, 10**6), 422, "image_too_large"),
    "case-23-in-a-PDF": (
        lambda: documents.huge_image_in_pdf(10**5, 10**5),
        422,
        "image_too_large",
    ),
    "case-23-in-a-form-in-a-PDF": (
        lambda: files.huge_image_in_form(10**5, 10**5),
        422,
        "image_too_large",
    ),
    "case-29-signed": (documents.signed, 422, "pdf_signed"),
    "case-30-XFA": (documents.dynamic_form, 422, "pdf_dynamic_form"),
    "case-31-SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_type"),
}


@leaves_nothing
@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_invalid_document_is_refused(http: httpx.Client, name: str) -> None:
    """Case 16 includes files with only restrictions, which can be saved again without them."""
    content, status, wanted = DOCUMENTS[name]
    answer = submit(http, ("document.pdf", content if isinstance(content, bytes) else content()))
    refused(answer, status, wanted)


# Requests


@leaves_nothing
def test_case_1_an_empty_body(http: httpx.Client) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(http.post("/v1/jobs", content=b"", headers=kind), 400, "missing_file")


@leaves_nothing
@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("missing_file", {"files": {"mode": (None, "skip")}}),
        (
            "malformed_request",
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
        ),
        ("malformed_request", {"json": {"file": "x"}}),
        (
            "malformed_request",
            {"content": b"%PDF-1.7", "headers": {"Content-Type": "application/pdf"}},
        ),
        ("malformed_request", {"files": {"document": ("a.png", PNG)}}),
        ("malformed_request", {"files": {"file": (None, "text")}}),
    ],
    ids=["no file", "no boundary", "JSON", "bare PDF", "other field", "text"],
)
def test_case_3_no_file_part(http: httpx.Client, wanted: str, sent: dict[str, Any]) -> None:
    refused(http.post("/v1/jobs", **sent), 400, wanted)


def test_case_4_several_files_become_one_document(http: httpx.Client) -> None:
    """The list expects a 400 for a second file; here the files of a request become one document."""
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


@leaves_nothing
def test_case_4_the_invalid_one_of_several_files_is_named(http: httpx.Client) -> None:
    answer = submit(http, ("a.png", PNG), ("b.pdf", b""), ("c.png", PNG))

    assert refused(answer, 422, "empty_file")["detail"].startswith("File 2 of 3")


@leaves_nothing
def test_case_5_a_body_over_the_limit(http: httpx.Client) -> None:
    answer = submit(http, ("large.pdf", b"%PDF-" + b"\0" * (42 * MIB)))
    refused(answer, 413, "upload_too_large")


@leaves_nothing
def test_case_5_a_body_over_the_limit_is_refused_before_it_is_sent(stack: Stack) -> None:
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("size", "kept"), [(20_000, True), (200_000, False)])
def test_a_connection_is_closed_only_as_announced(stack: Stack, size: int, kept: bool) -> None:
    connection = http_client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    connection.request("POST", "/v1/nowhere", b"\0" * size)
    answer = connection.getresponse()
    answer.read()

    assert (answer.status, answer.will_close) == (404, not kept)
    if kept:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    connection.close()


@leaves_nothing
def test_case_6_a_body_over_the_limit_without_a_length(http: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n%PDF-'
        for _ in range(60):
            yield b"\0" * MIB
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        answer = http.post("/v1/jobs", content=body(), headers=kind)
    except httpx.TransportError:
        pass  # the server need not receive the whole body to refuse it
    else:
        refused(answer, 413, "upload_too_large")
    assert http.get("/healthz").status_code == 200


@leaves_nothing
@pytest.mark.parametrize("bad", ["file", "option"])
def test_a_refusal_keeps_the_connection_usable(http: httpx.Client, bad: str) -> None:
    content = b"%PDF-" if bad == "file" else PNG
    sent = {"mode": "nonsense"} if bad == "option" else {}
    for _ in range(3):
        assert submit(http, ("a", content + b"\0" * 3_000_000), **sent).status_code == 422


@leaves_nothing
def test_case_7_a_client_that_disconnects(stack: Stack) -> None:
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    # What was received is a valid document, but perhaps not all of it.
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(head + documents.scan("garden") + b"\0" * 3_000_000)
        wait_until(lambda: matching(stack.data_dir / "uploads", "*/*"))


@leaves_nothing
def test_case_9_a_compressed_body(http: httpx.Client) -> None:
    coded = {"Content-Encoding": "gzip"}
    answer = http.post("/v1/jobs", files={"file": ("a.png", PNG)}, headers=coded)
    refused(answer, 415, "unsupported_encoding")


@leaves_nothing
def test_case_10_many_parts(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", files=[("file", (f"{n}.png", PNG)) for n in range(2000)])
    refused(answer, 413, "too_many_files")


@leaves_nothing
def test_case_10_a_long_text_field(http: httpx.Client) -> None:
    refused(submit(http, ("a.png", PNG), title="x" * MIB), 413, "too_many_files")


# Accepted files


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("scan.png", documents.scan("picture"), "application/pdf"),
        ("scan.pdf", PNG, "image/png"),
        ("scan", PNG, "image/png"),
        (
            "scan.tif",
            documents.encoded(documents.picture("picture"), "JPEG", dpi=(150, 150)),
            "image/jpeg",
        ),
    ],
    ids=["case-11-PDF-named-png", "case-12-PNG-named-pdf", "no-ending", "case-35-JPEG-named-tif"],
)
def test_the_content_decides_about_the_type_and_not_the_name(
    http: httpx.Client, name: str, content: bytes, media_type: str
) -> None:
    """The list leaves cases 11 and 12 open: a wrong name is no reason to refuse a file."""
    job = submit(http, (name, content)).json()
    assert job["input"]["media_type"] == media_type
    assert wait_for_end(http, job)["state"] == "succeeded"
    assert "picture" in text_of(http.get(f"{job['links']['self']}/pdf").content)


@pytest.mark.parametrize("part", [1 / 3, 2 / 3, 0.99])
def test_case_17_a_truncated_pdf_is_refused_or_repaired(http: httpx.Client, part: float) -> None:
    whole = documents.scan("truncated", "document")
    answer = submit(http, ("cut.pdf", whole[: int(len(whole) * part)]))
    if answer.status_code == 422:
        assert answer.json()["code"] in ("pdf_invalid", "no_pages")
    else:
        assert wait_for_end(http, answer.json())["state"] == "succeeded"


def test_case_29_a_signed_pdf_is_processed_if_its_signature_may_be_removed(
    http: httpx.Client,
) -> None:
    job = submit(http, ("signed.pdf", documents.signed()), allow_signed="true").json()

    assert wait_for_end(http, job)["state"] == "succeeded"


def test_case_31_heic(http: httpx.Client) -> None:
    job = submit(http, ("photo.heic", HEIC)).json()

    assert job["input"]["media_type"] == "image/heic"
    assert wait_for_end(http, job)["state"] == "succeeded"


def test_case_32_two_files_with_the_same_sha1_are_two_documents(http: httpx.Client) -> None:
    one, other = files.twins()
    assert one != other
    assert hashlib.sha1(one).digest() == hashlib.sha1(other).digest()

    jobs = [submit(http, ("twin.pdf", twin)).json() for twin in (one, other)]

    assert jobs[0]["id"] != jobs[1]["id"]
    assert [job["input"]["sha256"] for job in jobs] == [
        hashlib.sha256(twin).hexdigest() for twin in (one, other)
    ]
    for job, twin in zip(jobs, (one, other), strict=True):
        assert code(wait_for_end(http, job)) == "succeeded"
        assert job["input"]["bytes"] == len(twin)


# Names (case 33) and metadata (case 34), threats T4 and T11

NAMES = {
    "../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "/absolute.pdf": "absolute.pdf",
    "C:\\Windows\\win.ini": "win.ini",
    "a\u202egpj.exe": "agpj.exe",
    "red\x1b[31m\x07.pdf": None,
    "line\r\nSet-Cookie: x=1.pdf": None,
    "x" * 300 + ".pdf": "x" * 196 + ".pdf",
    "شهادة.pdf": "شهادة.pdf",
    "“curly”.pdf": "“curly”.pdf",
    "...": "document",
    ".": "document",
    "-rf": "-rf",
    "$(touch x);`id`|&.pdf": "$(touch x);`id`|&.pdf",
    "%2e%2e%2fx.pdf": "%2e%2e%2fx.pdf",
    "CON": "CON",
    "<script>alert(1)<": "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>.pdf': None,
}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_case_33_a_name_is_only_a_label(http: httpx.Client, stack: Stack, name: str) -> None:
    """None: the name depends on the client's library, but must be a label as well."""
    seen = len(stack.log.read_text())
    job = submit(http, (name, PNG)).json()
    link = job["links"]["self"]
    label = job["input"]["name"]

    assert label == (NAMES[name] or label)
    assert label.isprintable()
    assert not {"/", "\\"} & set(label)
    assert wait_for_end(http, job)["state"] == "succeeded"
    disposition = http.get(f"{link}/pdf").headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename")
    assert disposition.isprintable()
    assert not [
        p for p in matching(stack.data_dir, "**/*") if "passwd" in p.name or ".ini" in p.name
    ]
    assert not [c for c in stack.log.read_text()[seen:] if not (c.isprintable() or c == "\n")]


METADATA = "<script>alert(1)</script> \x1b[31m\r\n]]> &l9; %s {0} $(id)"


def test_case_34_metadata_of_a_document_is_text(http: httpx.Client, stack: Stack) -> None:
    """It may appear in the log of the job, in the record and in each format; always as text."""
    import pikepdf

    with pikepdf.open(io.BytesIO(documents.scan("metadata"))) as pdf:
        for key in ("/Title", "/Author", "/Subject", "/Keywords", "/Producer"):
            pdf.docinfo[key] = METADATA
        content = documents.saved(pdf)
    seen = len(stack.log.read_text())

    job = wait_for_end(http, submit(http, ("a.pdf", content)).json())

    assert code(job) == "succeeded"
    link = job["links"]["self"]
    for name in ("hocr", "alto", "log"):
        assert "<script>" not in http.get(f"{link}/{name}").text
    assert "\x1b" not in http.get(f"{link}/log").text
    assert "\x1b" not in stack.log.read_text()[seen:]


def test_case_34_metadata_in_options_is_escaped(http: httpx.Client) -> None:
    title = "<script>alert(1)</script>\u2028]]>&\"'"
    job = wait_for_end(http, submit(http, ("a.png", PNG), title=title, author=title).json())

    assert code(job) == "succeeded"
    for name in ("hocr", "alto"):
        assert "<script>" not in http.get(f"{job['links']['self']}/{name}").text


def test_t10_text_of_a_page_is_escaped(http: httpx.Client) -> None:
    """T10: text of a document that contains tags, in each of the output formats."""
    tags = "(<script>alert\\(1\\)</script>) "
    content = documents.saved(files.with_text(tags[1:-2]))
    job = wait_for_end(http, submit(http, ("a.pdf", content)).json())
    link = job["links"]["self"]

    assert "<script>" in http.get(f"{link}/text").text
    for address in ("hocr", "alto", "pages/1/hocr"):
        answer = http.get(f"{link}/{address}")
        assert "&lt;script&gt;" in answer.text
        assert "<script" not in answer.text


def test_t12_images_cannot_include_files_of_the_server(http: httpx.Client, tmp_path: Path) -> None:
    """T12: entities in the XMP of an image."""
    canary = tmp_path / "canary"
    canary.write_text("canary-of-the-operator")
    packet = (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file://{canary}">]>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">&f;</x:xmpmeta>'
    )
    picture = Image.open(io.BytesIO(PNG)).convert("RGB")
    content = documents.encoded(picture, "JPEG", xmp=packet.encode(), dpi=(150, 150))
    job = wait_for_end(http, submit(http, ("a.jpg", content)).json())

    assert code(job) == "succeeded"
    for name in ("pdf", "text", "hocr", "alto", "json", "log"):
        assert b"canary-of-the" not in http.get(f"{job['links']['self']}/{name}").content


def test_a_polyglot_image_is_processed_as_a_pdf(http: httpx.Client) -> None:
    """A polyglot: the header of a PDF in the comment of a JPEG. It is inspected as a PDF."""
    scan = documents.scan("polyglot")
    jpeg = documents.encoded(documents.picture("picture"), "JPEG", comment=scan)
    job = submit(http, ("a.jpg", jpeg)).json()

    assert job["input"]["media_type"] == "application/pdf"
    assert code(wait_for_end(http, job)) == "succeeded"


def test_base64_is_not_decoded(http: httpx.Client) -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(PNG) + b"\r\n--b--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(http.post("/v1/jobs", content=part, headers=kind), 415, "unsupported_type")
