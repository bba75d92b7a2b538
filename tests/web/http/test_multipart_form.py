"""Forms are received completely or not at all."""

from __future__ import annotations

import io
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from ocr_tasks import errors
from web.http import multipart_form

BOUNDARY = "----b-1"
KIND = f'multipart/form-data; boundary="{BOUNDARY}"'


def part(disposition: str, content: bytes, more: str = "") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return head.encode("latin-1") + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def parsed(sent: bytes, kind: str = KIND) -> tuple[dict[str, list[str]], dict[str, bytes]]:
    """Returns the fields, and the files by name."""
    files: dict[str, io.BytesIO] = {}

    def open_file(field: str, name: str) -> IO[bytes]:
        assert field == "file"
        return files.setdefault(name, io.BytesIO())

    form = multipart_form.parse(io.BytesIO(sent).read, kind, open_file, 1000, 5)
    return form, {name: file.getvalue() for name, file in files.items()}


WHOLE = body(
    part('name="languages"', b"deu"),
    part('name="languages"', b"eng"),
    part('name="file"; filename="a.pdf"', b"%PDF-\r\n--\r\n------b", "Content-Type: x/y\r\n"),
    part('name="title"', "Möbel".encode("latin-1"), "Content-Type: a/b; charset=ISO-8859-1\r\n"),
)
FIELDS = {"languages": ["deu", "eng"], "title": ["Möbel"]}
FILES = {"a.pdf": b"%PDF-\r\n--\r\n------b"}


def test_fields_and_files_are_received() -> None:
    assert parsed(WHOLE) == (FIELDS, FILES)
    assert parsed(b"preamble\r\n" + WHOLE + b"epilogue") == (FIELDS, FILES)


@given(st.integers(1, len(WHOLE) - len(b"\r\n") - 1))
def test_a_form_that_was_cut_is_invalid(length: int) -> None:
    with pytest.raises(errors.MalformedRequest):
        parsed(WHOLE[:length])


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3))
def test_a_damaged_form_is_invalid_or_complete(place: int, instead: bytes) -> None:
    """A client that sends another form gets what it sent: no part is lost without an error."""
    sent = WHOLE[:place] + instead + WHOLE[place + 1 :]
    try:
        form, files = parsed(sent)
    except (errors.MalformedRequest, RequestEntityTooLarge, AssertionError):
        return
    kept = sum(len(value) for values in form.values() for value in values)
    kept += sum(map(len, files.values()))
    # A damaged boundary or header makes two parts one, whose content has both.
    assert kept >= len("deueng") + len(FILES["a.pdf"]) + len("Möbel") - 3


@pytest.mark.parametrize(
    "sent",
    [
        body(f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode()),
        body(part('name="file"; filename="a"', b"1"), b"--other\r\n\r\nx\r\n")[:-12],
        body(part('name="a"', b"1")) + body(part('name="b"', b"2")),
        b"no form",
    ],
    ids=["no disposition", "no final boundary", "two forms", "no form"],
)
def test_an_invalid_form_is_an_error(sent: bytes) -> None:
    with pytest.raises(errors.MalformedRequest):
        parsed(sent)


def test_an_empty_body_is_a_form_without_parts() -> None:
    assert parsed(b"") == ({}, {})


def test_a_form_needs_a_boundary() -> None:
    with pytest.raises(errors.MalformedRequest, match="no boundary"):
        parsed(WHOLE, "multipart/form-data")


@pytest.mark.parametrize(
    "sent",
    [
        body(*[part('name="a"', b"1")] * 6),
        body(part('name="a"', b"1" * 600), part('name="b"', b"2" * 600)),
        body(part('name="a"; ' + "x" * 1100, b"")),
    ],
    ids=["parts", "text", "header"],
)
def test_limits(sent: bytes) -> None:
    with pytest.raises(RequestEntityTooLarge):
        parsed(sent)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Grüße.pdf".encode(), "Grüße.pdf"),
        ("Grüße € Straße.pdf".encode("cp1252"), "Grüße € Straße.pdf"),
        ("Rechnung März.pdf".encode("latin-1"), "Rechnung März.pdf"),
        ("請求書_スキャン.pdf".encode("cp932"), "請求書_スキャン.pdf"),
        ("スキャン 1.pdf".encode("cp932"), "スキャン 1.pdf"),
        (rb"C:\Users\me\scan.pdf", r"C:\Users\me\scan.pdf"),
        (rb"a \"b\" \\ c.pdf", r'a "b" \ c.pdf'),
        (b"a %22b%22.pdf", "a %22b%22.pdf"),
        (b"x.pdf\"; filename*=UTF-8''na%C3%AFve.pdf; x=\"", "naïve.pdf"),
    ],
)
def test_file_names_are_decoded_by_what_they_can_be(sent: bytes, name: str) -> None:
    disposition = f'name="file"; filename="{sent.decode("latin-1")}"'
    _, files = parsed(body(part(disposition, b"1"), part('name="title"', b"t")))
    assert list(files) == [name]
