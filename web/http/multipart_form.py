"""Parses multipart/form-data (RFC 7578) while it is received.

A form counts only if it arrived completely: werkzeug's own parser returns what it has until then.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import IO

from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from ocr_tasks import errors

#: Creates the file for a part; the arguments are the names of the field and of the client's file.
OpenFile = Callable[[str, str], IO[bytes]]

_CHUNK_BYTES = 64 * 1024

_FILE_NAME = re.compile(r';\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHARSETS = {"ascii", "us-ascii", "utf-8", "iso-8859-1"}


class _Decoder(MultipartDecoder):
    """werkzeug's decoder, with headers as Latin-1, which keeps their bytes."""

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        headers = super()._parse_headers(data.decode("latin-1").encode())
        # Otherwise the content of a part could become its headers, if they do not end properly.
        if len(headers.getlist("content-disposition")) > 1 or not all(
            _HEADER_NAME.fullmatch(name)
            for name in headers.keys()  # noqa: SIM118  # a multidict
        ):
            raise ValueError("invalid headers of a part")
        return headers


def parse(
    read: Callable[[int], bytes],
    content_type: str,
    open_file: OpenFile,
    max_text_bytes: int,
    max_parts: int,
) -> dict[str, list[str]]:
    """Writes the files of a form to those that `open_file` returns; returns its other fields.

    `read` returns the next bytes of the body, and nothing at its end. Raises MalformedRequest if
    the form is invalid or incomplete, and werkzeug's RequestEntityTooLarge above the limits.
    """
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not boundary:
        raise errors.MalformedRequest("The Content-Type of the form has no boundary")
    decoder = _Decoder(boundary.encode("latin-1", "replace"), max_text_bytes, max_parts=max_parts)
    fields: dict[str, list[str]] = {}
    part: Field | File | None = None
    file: IO[bytes] | None = None
    text = bytearray()
    text_bytes = 0
    for event in _events(read, decoder):
        if isinstance(event, File):
            part, file = event, open_file(decode(event.name or ""), _file_name(event))
        elif isinstance(event, Field):
            part, file = event, None
        elif isinstance(event, Data) and file:
            file.write(event.data)
        elif isinstance(event, Data) and part:
            text += event.data
            text_bytes += len(event.data)
            if text_bytes > max_text_bytes:
                raise RequestEntityTooLarge
            if not event.more_data:
                fields.setdefault(decode(part.name or ""), []).append(_text(part, text))
                text.clear()
    return fields


def _events(read: Callable[[int], bytes], decoder: MultipartDecoder) -> Iterator[Event]:
    event: Event = NeedData()
    chunk = read(_CHUNK_BYTES)
    if not chunk:
        return  # an empty body is a form without parts
    try:
        while not decoder.complete:
            decoder.receive_data(chunk or None)
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                yield event
            chunk = read(_CHUNK_BYTES)
    except ValueError as error:
        raise errors.MalformedRequest("The form is invalid or incomplete") from error
    if isinstance(event, Epilogue) and b"--" + decoder.boundary in event.data:
        raise errors.MalformedRequest("The form continues after its final boundary")


def _text(part: Field | File, data: bytearray) -> str:
    charset = parse_options_header(part.headers.get("content-type", ""))[1].get("charset", "")
    return data.decode(charset if charset.lower() in _CHARSETS else "utf-8", "replace")


def _file_name(part: File) -> str:
    header = part.headers.get("content-disposition", "")
    found = _FILE_NAME.search(header)
    if "filename*" in header.lower() or not found:
        return decode(part.filename)
    # Only `\"` shows that a client escapes with backslashes; others send paths of Windows.
    name = found[1]
    return decode(name.replace('\\"', '"').replace("\\\\", "\\") if '\\"' in name else name)


def decode(latin_1: str) -> str:
    """Returns a name whose bytes were read as Latin-1, decoded by what they can be.

    UTF-8 if they are valid UTF-8; Shift_JIS if they look like Japanese, as on old scanners;
    otherwise Windows-1252, as sent by curl on Windows.
    """
    try:
        data = latin_1.encode("latin-1")
        return data.decode()
    except UnicodeEncodeError:
        return latin_1  # it was encoded explicitly, as `filename*`
    except UnicodeDecodeError:
        pass
    # In Shift_JIS, kana and common kanji begin with bytes that Windows-1252 uses for punctuation.
    first = next(byte for byte in data if byte >= 0x80)
    if 0x81 <= first <= 0x9F:
        try:
            japanese = data.decode("cp932")
        except UnicodeDecodeError:
            japanese = "\ue000"
        if not any(unicodedata.category(character) == "Co" for character in japanese):
            return japanese
    return data.decode("cp1252", "replace")
