"""/v1/uploads: each rule of the tus protocol, and hostile requests; without a worker."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pikepdf
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import errors, settings
from ocr_tasks.jobs import lifecycle, retention
from ocr_tasks.model import Scope
from ocr_tasks.security import tokens
from ocr_tasks.storage import layout
from ocr_tasks.uploads import tus, tus_writer
from tests import documents
from tests.conftest import wait_until
from tests.web.access.test_authentication import UNKNOWN, bearer, refused
from tests.web.conftest import Configure
from web import extensions
from web.http import slow_clients, streaming
from web.http.slow_clients import PacedSocket

pytestmark = pytest.mark.usefixtures("service")

TUS = {"Tus-Resumable": "1.0.0"}
PIECE = "application/offset+octet-stream"
TEXT = b"hello world"


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure()


def begin(http: FlaskClient, length: int | None = len(TEXT), **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if length is not None:
        sent["Upload-Length"] = str(length)
    return http.post("/v1/uploads", headers=TUS | sent)


def begun(http: FlaskClient, length: int = len(TEXT), **headers: str) -> str:
    """Returns the URL of a new upload."""
    answer = begin(http, length, **headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def append(
    http: FlaskClient, address: str, data: bytes, offset: int | str = 0, **headers: str
) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = TUS | {"Upload-Offset": str(offset), "Content-Type": PIECE} | sent
    return http.patch(address, data=data, headers=sent)


def offset_of(http: FlaskClient, address: str, **more: Any) -> int:
    answer = http.head(address, headers=TUS | more)
    assert answer.status_code == 200, answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    return int(answer.headers["Upload-Offset"])


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    digest = hashlib.new(algorithm, data).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


def metadata(**values: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in values.items())


def content(address: str) -> Path:
    return settings.get().data_dir / "resumable" / address.rpartition("/")[2] / "content"


def make_old(address: str, seconds: float = 2 * 24 * 3600) -> None:
    then = time.time() - seconds
    for path in (content(address).parent, *content(address).parent.iterdir()):
        os.utime(path, (then, then))


# The core of the protocol


def test_options_describes_the_protocol_without_a_token(configure: Configure) -> None:
    http = configure(access="tokens", max_upload_bytes="5000")

    for address in ("/v1/uploads", f"/v1/uploads/{UNKNOWN}"):
        answer = http.options(address)
        assert answer.status_code == 200
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == "5000"
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,sha512"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            *("creation", "creation-with-upload", "creation-defer-length"),
            *("termination", "checksum", "expiration"),
        }


def test_an_upload_is_sent_in_chunks(http: FlaskClient) -> None:
    answer = begin(http)
    address = answer.headers["Location"]

    assert answer.status_code == 201
    assert answer.headers["Upload-Offset"] == "0"
    assert offset_of(http, address) == 0
    first = append(http, address, TEXT[:4])
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "4")
    assert first.headers["Tus-Resumable"] == "1.0.0"
    last = append(http, address, TEXT[4:], 4)
    assert (last.status_code, last.headers["Upload-Offset"]) == (204, "11")
    head = http.head(address, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("11", "11")
    assert content(address).read_bytes() == TEXT
    shown = http.get(address).json
    assert (shown["offset"], shown["length"], shown["complete"]) == (11, 11, True)


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_other_versions_are_refused(http: FlaskClient, method: str) -> None:
    address = begun(http)
    path = "/v1/uploads" if method == "POST" else address
    headers = {"Upload-Offset": "0", "Upload-Length": "5", "Content-Type": PIECE}

    for version in ({}, *({"Tus-Resumable": v} for v in ("", "0.2.2", "1.0.1", "nonsense"))):
        answer = http.open(path, method=method, headers=headers | version)
        assert answer.status_code == 412
        assert answer.headers["Tus-Version"] == "1.0.0"
        if method != "HEAD":
            refused(answer, 412, "tus_version_unsupported")
    assert offset_of(http, address) == 0
    assert len(list(tus._folders())) == 1


def test_a_chunk_with_another_offset_changes_nothing(http: FlaskClient) -> None:
    address = begun(http)
    append(http, address, TEXT[:4])

    for offset in (0, 3, 5, 11, 12, 10**17):
        problem = refused(append(http, address, b"xx", offset), 409, "offset_mismatch")
        assert problem["offset"] == 4
    assert content(address).read_bytes() == TEXT[:4]


def test_offsets_are_numbers(http: FlaskClient) -> None:
    address = begun(http)

    for offset in ("", "-1", "1.0", "x", "0x1", "1 ", "٣".encode().decode("latin-1"), "9" * 30):
        problem = refused(append(http, address, b"x", offset), 400, "malformed_request")
        assert "Upload-Offset" in problem["detail"]


def test_a_chunk_needs_an_offset_and_a_type(http: FlaskClient) -> None:
    address = begun(http)

    untyped = http.patch(address, data=b"x", headers=TUS | {"Upload-Offset": "0"})
    refused(untyped, 415, "content_type_wrong")
    wrong = append(http, address, b"x", Content_Type="application/pdf")
    refused(wrong, 415, "content_type_wrong")
    nowhere = http.patch(address, data=b"x", headers=TUS | {"Content-Type": PIECE})
    refused(nowhere, 400, "malformed_request")
    packed = append(http, address, b"x", Content_Encoding="gzip")
    refused(packed, 415, "unsupported_encoding")
    assert offset_of(http, address) == 0


def test_no_chunk_exceeds_the_length_of_the_upload(http: FlaskClient) -> None:
    address = begun(http)
    append(http, address, TEXT[:8])

    refused(append(http, address, b"1234", 8), 413, "upload_too_large")
    assert append(http, address, b"", 8).status_code == 204
    assert append(http, address, TEXT[8:], 8).status_code == 204
    refused(append(http, address, b"x", 11), 413, "upload_too_large")
    assert append(http, address, b"", 11).headers["Upload-Offset"] == "11"
    assert content(address).read_bytes() == TEXT


def test_a_chunk_of_unknown_size_does_not_exceed_the_length_of_the_upload(
    http: FlaskClient,
) -> None:
    address = begun(http)
    chunked = {"Transfer_Encoding": "chunked"}

    refused(append(http, address, TEXT + b"!", **chunked), 413, "upload_too_large")
    assert offset_of(http, address) == 0
    assert append(http, address, TEXT, **chunked).status_code == 204
    assert content(address).read_bytes() == TEXT


def test_unknown_uploads_are_not_found(http: FlaskClient) -> None:
    for upload_id in (UNKNOWN, "x", "..", "%2e%2e", "upload.json", "a" * 5000, "\N{SNOWMAN}"):
        address = f"/v1/uploads/{upload_id}"
        assert http.head(address, headers=TUS).status_code == 404
        assert append(http, address, b"x").status_code == 404
        assert http.delete(address, headers=TUS).status_code == 404
    refused(http.get(f"/v1/uploads/{UNKNOWN}"), 404, "upload_not_found")
    assert not (settings.get().data_dir / "resumable").exists()


def test_a_header_can_override_the_method(http: FlaskClient) -> None:
    address = begun(http)

    def ask(method: str, **headers: str) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        override = {"X-HTTP-Method-Override": method}
        return http.post(address, data=TEXT[:5], headers=TUS | override | sent)

    sent = ask("PATCH", Content_Type=PIECE, Upload_Offset="0")
    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, "5")
    head = ask("HEAD")
    assert (head.headers["Upload-Offset"], head.headers["Content-Length"]) == ("5", "0")
    assert ask("NONSENSE").status_code == 405
    assert ask("DELETE").status_code == 204
    assert http.head(address, headers=TUS).status_code == 404
    elsewhere = http.post("/v1/jobs", headers={"X-HTTP-Method-Override": "GET"})
    refused(elsewhere, 400, "malformed_request")


# Creation


NO_CREATION: list[dict[str, str]] = [
    {},
    {"Upload-Length": "-1"},
    {"Upload-Length": "ten"},
    {"Upload-Length": ""},
    {"Upload-Length": "9" * 30},
    {"Upload-Defer-Length": "0"},
    {"Upload-Defer-Length": "1", "Upload-Length": "5"},
    {"Upload-Length": "5", "Upload-Concat": "partial"},
    {"Upload-Concat": "final;/v1/uploads/a /v1/uploads/b"},
]


def test_an_invalid_creation_is_refused(http: FlaskClient) -> None:
    for headers in NO_CREATION:
        refused(http.post("/v1/uploads", headers=TUS | headers), 400, "malformed_request")


def test_no_upload_is_larger_than_allowed(configure: Configure) -> None:
    http = configure(max_upload_bytes="2000")

    assert refused(begin(http, 2001), 413, "upload_too_large")["limit"] == 2000
    assert begin(http, 2000).status_code == 201
    assert begin(http, 0).status_code == 201


def test_the_first_chunk_may_be_sent_with_the_creation(http: FlaskClient) -> None:
    def send(data: bytes, **headers: str) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = TUS | {"Upload-Length": "11", "Content-Type": PIECE} | sent
        return http.post("/v1/uploads", data=data, headers=sent)

    answer = send(TEXT[:6], Upload_Checksum=checksum(TEXT[:6]))
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "6")
    assert append(http, answer.headers["Location"], TEXT[6:], 6).status_code == 204

    refused(send(TEXT, Content_Type="text/plain"), 415, "content_type_wrong")
    refused(send(TEXT + b"!"), 413, "upload_too_large")
    refused(send(TEXT, Upload_Checksum=checksum(b"other")), 460, "checksum_mismatch")
    assert len(list(tus._folders())) == 1  # nothing whose URL no client knows


def test_the_length_may_be_set_later(http: FlaskClient) -> None:
    address = begin(http, None, Upload_Defer_Length="1").headers["Location"]
    head = http.head(address, headers=TUS)
    assert head.headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in head.headers
    assert append(http, address, TEXT[:5]).status_code == 204

    refused(append(http, address, b"", 5, Upload_Length="4"), 400, "malformed_request")
    refused(append(http, address, b"", 5, Upload_Length="9" * 18), 413, "upload_too_large")
    assert append(http, address, TEXT[5:], 5, Upload_Length="11").status_code == 204

    head = http.head(address, headers=TUS)
    assert head.headers["Upload-Length"] == "11"
    assert "Upload-Defer-Length" not in head.headers
    refused(append(http, address, b"", 11, Upload_Length="12"), 400, "malformed_request")


def test_without_a_length_the_limit_applies(configure: Configure) -> None:
    http = configure(max_upload_bytes="2000")
    address = begin(http, None, Upload_Defer_Length="1").headers["Location"]

    refused(append(http, address, bytes(2001)), 413, "upload_too_large")
    assert append(http, address, bytes(2000)).status_code == 204
    refused(append(http, address, b"x", 2000), 413, "upload_too_large")


def test_metadata_is_returned_as_it_was_sent(http: FlaskClient) -> None:
    sent = f"{metadata(filename='Akte 7.pdf')},is_confidential,empty "

    head = http.head(begun(http, Upload_Metadata=sent.strip()), headers=TUS)

    assert head.headers["Upload-Metadata"] == sent.strip()


NO_METADATA = [
    "filename not-base64!",
    "filename YQ",
    "filename YQ==,filename Yg==",
    ",",
    "a YQ== b",
    "filename YQ==,,b YQ==",
    " YQ==",
    "schl\xfcssel YQ==",
    "a " + "A" * 5000,
]


def test_invalid_metadata_is_refused(http: FlaskClient) -> None:
    for sent in NO_METADATA:
        problem = refused(begin(http, Upload_Metadata=sent), 400, "malformed_request")
        assert "Upload-Metadata" in problem["detail"]


def test_the_number_of_open_uploads_per_client_is_limited(configure: Configure) -> None:
    http = configure(access="tokens", limit_open_uploads="2")
    one, other = bearer(Scope.SUBMIT), bearer(Scope.SUBMIT, limits={"open_uploads": 1})
    first = begin(http, **one).headers["Location"]
    assert begin(http, **one).status_code == 201

    problem = refused(begin(http, **one), 429, "limit_reached")
    assert (problem["limit"], problem["most"]) == ("open_uploads", 2)
    assert begin(http, **other).status_code == 201
    refused(begin(http, **other), 429, "limit_reached")
    assert http.delete(first, headers=TUS | one).status_code == 204
    assert begin(http, **one).status_code == 201


def test_no_upload_begins_or_continues_if_the_disk_is_full(
    http: FlaskClient, configure: Configure
) -> None:
    address = begun(http)

    full = configure(reserve_bytes=str(10**15))

    refused(begin(full), 507, "storage_full")
    refused(append(full, address, TEXT), 507, "storage_full")
    assert offset_of(full, address) == 0


# Checksums


@pytest.mark.parametrize("algorithm", tus_writer.CHECKSUMS)
def test_a_chunk_with_the_right_checksum_is_stored(http: FlaskClient, algorithm: str) -> None:
    address = begun(http)

    sent = append(http, address, TEXT, Upload_Checksum=checksum(TEXT, algorithm))

    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, "11")
    assert not content(address).with_name("unchecked").exists()


def test_a_chunk_with_the_wrong_checksum_is_not_stored(http: FlaskClient) -> None:
    address = begun(http)
    append(http, address, TEXT[:4])

    wrong = append(http, address, b"12345", 4, Upload_Checksum=checksum(b"12346"))

    refused(wrong, 460, "checksum_mismatch")
    assert wrong.headers["Tus-Resumable"] == "1.0.0"
    assert offset_of(http, address) == 4
    assert append(http, address, TEXT[4:], 4).status_code == 204
    assert content(address).read_bytes() == TEXT


def test_an_invalid_checksum_is_refused(http: FlaskClient) -> None:
    address = begun(http)

    for text in ("md5 YQ==", "crc32 YQ==", "sha1 !", "SHA1 YQ==", "", "shake_128 "):
        refused(append(http, address, TEXT, Upload_Checksum=text), 400, "malformed_request")
    assert offset_of(http, address) == 0


def test_a_chunk_that_was_not_verified_when_the_server_died_is_discarded(
    http: FlaskClient,
) -> None:
    address = begun(http)
    append(http, address, TEXT[:4])
    upload = tus.read(address.rpartition("/")[2], None)
    with closing(
        tus_writer._append_to(upload, tus_writer.Checksum.parse(checksum(b"12345")))
    ) as died:
        next(died).write(b"123")
        assert content(address).stat().st_size == 7

        assert offset_of(http, address) == 4
        assert append(http, address, TEXT[4:], 4).status_code == 204
        assert content(address).read_bytes() == TEXT


# Concurrent requests and lost connections


class Line:
    """A connection that sends the body of a request, as gunicorn passes it to the application."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.socket = PacedSocket(fileno=ours.detach())
        self.socket.setblocking(True)
        #: Set when the server has checked the request and reads its body.
        self.reading = threading.Event()

    def read(self, size: int) -> bytes:
        self.reading.set()
        data = b""
        while len(data) < size and (piece := self.socket.recv(size - len(data))):
            data += piece
        return data

    def close(self) -> None:
        self.socket.close()
        self.theirs.close()


@pytest.fixture
def line() -> Iterator[Line]:
    opened = Line()
    yield opened
    opened.close()


def send_over(http: FlaskClient, line: Line, address: str, **headers: str) -> threading.Thread:
    """Sends a chunk of 11 bytes in a thread; the response is set as its `answer` at the end."""

    def send() -> None:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        thread.answer = http.patch(  # type: ignore[attr-defined]
            address,
            headers=TUS | {"Upload-Offset": "0", "Content-Type": PIECE} | sent,
            content_length=len(TEXT),
            environ_overrides={"wsgi.input": line, "gunicorn.socket": line.socket},
        )

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def answer_of(thread: threading.Thread) -> TestResponse:
    thread.join(30)
    answer: TestResponse = thread.answer  # type: ignore[attr-defined]
    return answer


def test_a_lost_connection_keeps_the_received_bytes(http: FlaskClient, line: Line) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    line.theirs.sendall(TEXT[:7])
    line.theirs.close()

    refused(answer_of(thread), 400, "malformed_request")
    assert offset_of(http, address) == 7
    assert append(http, address, TEXT[7:], 7).status_code == 204
    assert content(address).read_bytes() == TEXT


def test_a_stalled_connection_keeps_the_received_bytes(
    http: FlaskClient, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = line.socket._began
    monkeypatch.setattr(slow_clients, "time", SimpleNamespace(monotonic=lambda: now))
    address = begun(http)
    thread = send_over(http, line, address)
    line.theirs.sendall(TEXT[:7])
    wait_until(lambda: line.socket._received == 7)

    now += settings.get().body_seconds + 1

    refused(answer_of(thread), 408, "too_slow")
    assert offset_of(http, address) == 7


def test_a_lost_connection_keeps_nothing_of_a_chunk_with_a_checksum(
    http: FlaskClient, line: Line
) -> None:
    address = begun(http)
    thread = send_over(http, line, address, Upload_Checksum=checksum(TEXT))
    line.theirs.sendall(TEXT[:7])
    line.theirs.close()

    refused(answer_of(thread), 400, "malformed_request")
    assert offset_of(http, address) == 0


def test_a_new_chunk_takes_over_from_a_stalled_connection(http: FlaskClient, line: Line) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    line.theirs.sendall(TEXT[:7])
    assert line.reading.wait(60)

    # A client that did not request the offset assumes 0, and gets the correct one.
    problem = refused(append(http, address, TEXT, 0), 409, "offset_mismatch")
    assert problem["offset"] == 7
    assert append(http, address, TEXT[7:], 7).status_code == 204

    refused(answer_of(thread), 423, "upload_busy")
    assert content(address).read_bytes() == TEXT
    line.theirs.sendall(TEXT[7:])
    assert line.socket.recv(100) == b""  # late bytes are not parsed as a request


def test_requesting_the_offset_ends_a_stalled_connection(http: FlaskClient, line: Line) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    line.theirs.sendall(TEXT[:7])
    assert line.reading.wait(60)

    assert offset_of(http, address) == 7

    refused(answer_of(thread), 423, "upload_busy")
    assert append(http, address, TEXT[7:], 7).status_code == 204


def test_requesting_the_state_ends_no_connection(http: FlaskClient, line: Line) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    assert line.reading.wait(60)

    assert http.get(address).json["complete"] is False

    line.theirs.sendall(TEXT)
    assert answer_of(thread).status_code == 204
    assert http.get(address).json["complete"] is True


def test_an_upload_can_be_deleted_while_a_connection_is_stalled(
    http: FlaskClient, line: Line
) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    assert line.reading.wait(60)

    assert http.delete(address, headers=TUS).status_code == 204

    refused(answer_of(thread), 423, "upload_busy")
    assert http.head(address, headers=TUS).status_code == 404


def test_a_client_that_cannot_take_over_is_asked_to_retry(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = begun(http)
    monkeypatch.setattr(tus, "_PATIENCE", 0.2)

    with tus.locked(address.rpartition("/")[2]):
        answer = append(http, address, TEXT)

    refused(answer, 423, "upload_busy")
    assert "Retry-After" in answer.headers
    assert append(http, address, TEXT).status_code == 204


def test_concurrent_chunks_never_mix(http: FlaskClient) -> None:
    length = 200_000
    address = begun(http, length)
    whole = bytes(range(250)) * (length // 250)

    def send(piece: int) -> None:
        while (offset := offset_of(http, address)) < length:
            append(http, address, whole[offset : offset + piece], offset)

    senders = [threading.Thread(target=send, args=(piece,)) for piece in (7_000, 11_000)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)

    assert content(address).read_bytes() == whole


def test_half_of_the_threads_stay_free_for_other_requests(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = begun(http)
    monkeypatch.setattr(streaming, "_slots", threading.BoundedSemaphore(1))

    with streaming._slot():
        refused(append(http, address, TEXT), 503, "too_many_waiting")
        assert offset_of(http, address) == 0
    assert append(http, address, TEXT).status_code == 204


# Expiration and termination


def test_an_upload_says_when_it_expires(configure: Configure) -> None:
    http = configure(keep_uploads_seconds="600")
    answer = begin(http)
    address = answer.headers["Location"]
    make_old(address, 300)
    before = http.head(address, headers=TUS)

    after = append(http, address, TEXT[:4])

    def told(answer: TestResponse) -> float:
        return parsedate_to_datetime(answer.headers["Upload-Expires"]).timestamp()

    assert told(before) == pytest.approx(time.time() + 300, abs=60)
    assert told(after) == pytest.approx(time.time() + 600, abs=60)


def test_an_expired_upload_is_not_found_and_is_deleted_later(http: FlaskClient) -> None:
    old, fresh = begun(http), begun(http)
    make_old(old)

    assert http.head(old, headers=TUS).status_code == 410
    refused(append(http, old, TEXT), 410, "upload_expired")
    refused(http.delete(old, headers=TUS), 410, "upload_expired")
    swept = retention.Swept()
    retention.sweep_uploads(swept)

    assert swept.uploads == 1
    assert swept.bytes > 0
    assert http.head(old, headers=TUS).status_code == 404
    assert http.head(fresh, headers=TUS).status_code == 200


def test_an_upload_that_is_being_sent_does_not_expire(http: FlaskClient, line: Line) -> None:
    address = begun(http)
    thread = send_over(http, line, address)
    assert line.reading.wait(60)
    make_old(address)

    assert tus.sweep() == (0, 0)

    line.theirs.sendall(TEXT)
    assert answer_of(thread).status_code == 204


def test_an_expired_upload_frees_its_place(configure: Configure) -> None:
    http = configure(limit_open_uploads="1")
    make_old(begun(http))

    assert begin(http).status_code == 201


def test_files_of_an_interrupted_creation_are_deleted(http: FlaskClient) -> None:
    address = f"/v1/uploads/{layout.new_id()}"
    content(address).parent.mkdir(parents=True)
    content(address).touch()
    assert http.head(address, headers=TUS).status_code == 404
    make_old(address)

    assert tus.sweep()[0] == 1
    assert not content(address).parent.exists()


def test_an_upload_is_deleted(http: FlaskClient) -> None:
    address = begun(http)
    append(http, address, TEXT[:4])

    assert http.delete(address, headers=TUS).status_code == 204

    assert not content(address).parent.exists()
    refused(http.delete(address, headers=TUS), 404, "upload_not_found")


# Owners


def test_another_owners_upload_is_not_found(configure: Configure) -> None:
    http = configure(access="tokens")
    _token, text = tokens.create("owner", {Scope.SUBMIT})
    owner, stranger = {"Authorization": f"Bearer {text}"}, bearer(Scope.SUBMIT)
    address = begun(http, **owner)

    assert http.head(address, headers=TUS | stranger).status_code == 404
    refused(append(http, address, TEXT, **stranger), 404, "upload_not_found")
    refused(http.delete(address, headers=TUS | stranger), 404, "upload_not_found")
    refused(make_job(http, address, **stranger), 404, "upload_not_found")
    assert append(http, address, TEXT, **owner).status_code == 204
    assert offset_of(http, address, **bearer(Scope.ADMIN)) == 11


def test_pages_of_allowed_sites_may_upload(configure: Configure) -> None:
    http = configure(cors_origins="https://scans.example")
    origin = {"Origin": "https://scans.example"}

    leave = http.options(
        f"/v1/uploads/{UNKNOWN}", headers=origin | {"Access-Control-Request-Method": "PATCH"}
    ).headers
    told = http.head(begun(http), headers=TUS | origin).headers

    assert "PATCH" in leave["Access-Control-Allow-Methods"]
    for name in ("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Metadata",
                 "Upload-Checksum", "X-HTTP-Method-Override"):  # fmt: skip
        assert name in leave["Access-Control-Allow-Headers"]
    for name in ("Location", "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Expires"):
        assert name in told["Access-Control-Expose-Headers"]


def test_pages_of_other_sites_may_not_upload(http: FlaskClient) -> None:
    address = begun(http)
    foreign = {"Sec-Fetch-Site": "cross-site"}

    refused(begin(http, **foreign), 403, "cross_site")
    refused(append(http, address, TEXT, **foreign), 403, "cross_site")
    override = TUS | foreign | {"X-HTTP-Method-Override": "DELETE"}
    refused(http.get(address, headers=override), 403, "cross_site")
    assert offset_of(http, address) == 0


# Jobs


@pytest.fixture
def languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a worker with languages; no job is processed."""
    monkeypatch.setattr("ocr_tasks.jobs.worker_registry.languages", lambda: ["eng"])


def make_job(http: FlaskClient, *addresses: str, **headers: str) -> TestResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(
        "/v1/jobs",
        data={"upload": list(addresses)},
        headers=sent,
        content_type="multipart/form-data",
    )


def uploaded(http: FlaskClient, data: bytes, name: str = "", **headers: str) -> str:
    """Returns the URL of a finished upload."""
    said = {"Upload_Metadata": metadata(filename=name)} if name else {}
    address = begun(http, len(data), **said, **headers)
    assert append(http, address, data, **headers).status_code == 204
    return address


@pytest.mark.usefixtures("languages")
def test_a_finished_upload_becomes_a_job(http: FlaskClient) -> None:
    scan = documents.scan("one")
    address = uploaded(http, scan, "Akte 7.pdf")

    answer = make_job(http, address)

    assert answer.status_code == 202, answer.text
    job = lifecycle.read(answer.json["id"])
    assert (job.input.name, job.input.bytes, job.input.pages) == ("Akte 7.pdf", len(scan), 1)
    assert job.input.sha256 == hashlib.sha256(scan).hexdigest()
    assert layout.job(job.id).input.read_bytes() == scan
    assert layout.job(job.id).input.stat().st_nlink == 1
    assert not content(address).exists()
    assert http.head(address, headers=TUS).status_code == 410
    problem = refused(make_job(http, address), 410, "upload_taken")
    assert problem["job"] == job.id
    refused(append(http, address, b"", len(scan)), 410, "upload_taken")


@pytest.mark.usefixtures("languages")
def test_several_uploads_become_one_document_in_their_order(http: FlaskClient) -> None:
    scans = [documents.scan("one"), documents.scan("two", "three")]
    ids = [uploaded(http, scan, f"{len(scan)}.pdf").rpartition("/")[2] for scan in scans]

    answer = make_job(http, *ids)

    job = lifecycle.read(answer.json["id"])
    assert (job.input.files, job.input.pages) == (2, 3)
    assert job.input.name == f"{len(scans[0])}.pdf"
    assert job.input.sha256 == hashlib.sha256(scans[0] + scans[1]).hexdigest()
    assert answer.json["warnings"] == []


@pytest.mark.usefixtures("languages")
def test_the_job_has_a_warning_about_what_is_lost_by_merging(http: FlaskClient) -> None:
    with documents.blank_pdf() as pdf:
        pdf.Root.StructTreeRoot = pikepdf.Dictionary(Type=pikepdf.Name.StructTreeRoot)
        tagged = documents.saved(pdf)
    ids = [uploaded(http, tagged, f"{n}.pdf").rpartition("/")[2] for n in range(2)]

    job = http.get(make_job(http, *ids).headers["Location"]).json

    assert job["warnings"] == ["Merging the files has lost tags of file 2."]


@pytest.mark.usefixtures("languages")
def test_a_repeated_request_gets_the_same_job(http: FlaskClient) -> None:
    ids = [uploaded(http, documents.scan(text)) for text in ("one", "two")]

    first = make_job(http, *ids, Idempotency_Key="once")
    again = make_job(http, *ids, Idempotency_Key="once")

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json["id"] == again.json["id"]
    refused(make_job(http, *ids, Idempotency_Key="other"), 410, "upload_taken")
    refused(make_job(http, ids[0], uploaded(http, TEXT)), 410, "upload_taken")


@pytest.mark.usefixtures("languages")
def test_an_upload_can_be_used_again_if_creating_the_job_failed(http: FlaskClient) -> None:
    address = uploaded(http, documents.scan("one"))

    wrong = http.post(
        "/v1/jobs", data={"upload": address, "pages": "9"}, content_type="multipart/form-data"
    )
    unknown = http.post(
        "/v1/jobs", data={"upload": address, "nothing": "9"}, content_type="multipart/form-data"
    )

    refused(wrong, 422, "invalid_options")
    refused(unknown, 422, "invalid_options")
    assert list(layout.uploads()) == []
    assert make_job(http, address).status_code == 202


def test_an_unfinished_or_unknown_upload_becomes_no_job(http: FlaskClient) -> None:
    half = begun(http)
    append(http, half, TEXT[:4])
    endless = begin(http, None, Upload_Defer_Length="1").headers["Location"]

    problem = refused(make_job(http, half), 409, "upload_unfinished")
    assert (problem["offset"], problem["length"]) == (4, 11)
    refused(make_job(http, endless), 409, "upload_unfinished")
    for unknown in (UNKNOWN, "", "../../jobs", "x" * 1000):
        refused(make_job(http, unknown), 404, "upload_not_found")
    refused(make_job(http, half, half), 400, "malformed_request")
    refused(make_job(http, uploaded(http, TEXT)), 415, "unsupported_type")
    refused(make_job(http, begun(http, 0)), 422, "empty_file")


def test_uploads_cannot_be_combined_with_files_or_other_sources(http: FlaskClient) -> None:
    address = uploaded(http, TEXT)
    fields = [extension.source_field for extension in extensions.installed()]
    others: list[dict[str, Any]] = [{name: UNKNOWN} for name in fields if name]

    for more in ({"file": (io.BytesIO(TEXT), "x.pdf")}, *others):
        sent = http.post(
            "/v1/jobs", data={"upload": address} | more, content_type="multipart/form-data"
        )
        refused(sent, 400, "malformed_request")
    assert http.head(address, headers=TUS).status_code == 200


def test_limits_apply_to_all_files_of_a_job_together(configure: Configure) -> None:
    http = configure(max_upload_bytes="2000", max_files="2")
    ids = [uploaded(http, bytes(1500)) for _ in range(3)]

    refused(make_job(http, *ids[:2]), 413, "upload_too_large")
    http = configure(max_upload_bytes="20000")
    refused(make_job(http, *ids), 413, "too_many_files")


@pytest.mark.usefixtures("languages")
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\a.pdf", "a.pdf"),
        ("a\r\nX-Evil: 1.pdf", "aX-Evil: 1.pdf"),
        ("\u202efdp.exe", "fdp.exe"),
        ("<script>.pdf", "<script>.pdf"),
        ("\x00", "document"),
        ("", "document"),
    ],
)
def test_a_name_is_a_label_and_never_a_path(http: FlaskClient, name: str, label: str) -> None:
    address = uploaded(http, documents.scan("one"), name)

    job = make_job(http, address).json

    assert job["input"]["name"] == label


def test_a_damaged_record_counts_as_no_upload(http: FlaskClient) -> None:
    address = begun(http)
    record = content(address).with_name("upload.json")
    for spoilt in ("", "{", "[]", "null", json.dumps({"owner": 1})):
        record.write_text(spoilt)
        assert http.head(address, headers=TUS).status_code == 404
        with pytest.raises(errors.UploadNotFound):
            tus.read(address.rpartition("/")[2], None)
    assert begin(http).status_code == 201
