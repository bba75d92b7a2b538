"""A file in JSON that arrives in arbitrary chunks."""

from __future__ import annotations

import base64
import random

import pytest

from web.dialects.base64_json import NotBase64, Reader

LONG = "A" * 6000


def read(body: str | bytes, piece: int = 64) -> tuple[bytes, Reader]:
    raw = body.encode() if isinstance(body, str) else body
    reader = Reader("file")
    pieces = (raw[place : place + piece] for place in range(0, len(raw), piece))
    return b"".join(reader.read(pieces)), reader


@pytest.mark.parametrize("piece", [1, 3, 64, 65536])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 3071, 3072, 3073, 10_001])
@pytest.mark.parametrize("escaped", [None, ("/", "\\/"), ("+", "\\u002B"), ("A", "\\u0041")])
def test_the_file_is_decoded_correctly(
    piece: int, size: int, escaped: tuple[str, str] | None
) -> None:
    content = random.Random(size).randbytes(size)  # any bytes are valid
    written = base64.b64encode(content).decode()
    if escaped:
        written = written.replace(*escaped)

    got, reader = read(f'{{"n": [1], "file" : "{written}", "o": "a\\"\\\\"}}', piece)

    assert got == content
    assert reader.has_file
    assert reader.rest == {"n": [1], "o": 'a"\\'}


def test_an_object_without_a_file_is_reported() -> None:
    got, reader = read('{"url": "https://scans.example/a.pdf", "file": null}')

    assert (got, reader.has_file) == (b"", False)
    assert reader.rest == {"url": "https://scans.example/a.pdf"}


@pytest.mark.parametrize(
    "text",
    [
        *("abc", "ab=c", "a", "====", "AA AA", "data:application/pdf;base64,AAAA", "AAAA\\n", "ä"),
        *(LONG + "A", LONG + "=AAA", LONG + "==AA" + LONG, LONG + "-_AA", LONG + "\\u00e9"),
        *(LONG + "AA==" + LONG, LONG + "\\nAAA"),
    ],
)
def test_invalid_base64_is_refused(text: str) -> None:
    with pytest.raises(NotBase64):
        read(f'{{"file": "{text}"}}')


def test_the_file_must_be_a_string() -> None:
    with pytest.raises(NotBase64):
        read('{"file": 5}')


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", '["file"]', '"file"', "[" * 60),
        *('{"file": "AAAA"', '{"file": "AA', '{"file": "AA\\'),
        f'{{"other": "{LONG}"}}',
        f'{{"file": "{LONG}", "file": "AAAA"}}',
        f'{{"file": "{LONG}", "file": "{LONG}"}}',
        f'{{"file": {{"file": "{LONG}"}}}}',
        "[" * 70_000,
        "[" * 60_000 + '"' + "]" * 10,
        '{"file": "AAAA", "other": [1' + ",1" * 40_000 + "]}",
        b'{"file": "\xff\xfe"}',
    ],
)  # fmt: skip
def test_invalid_json_is_refused(body: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read(body)
    assert len(str(caught.value)) < 200
