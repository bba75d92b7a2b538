"""A streaming parser for JSON objects that contain a file as Base64.

The object has one long string, which is decoded while it is received. The rest is short and parsed
at the end, with a placeholder instead of the long string. Base64 is RFC 4648, section 4, with
padding.
"""

from __future__ import annotations

import binascii
import json
import re
import uuid
from collections.abc import Generator, Iterable, Iterator
from typing import Any

#: A string with more bytes is the long one; maximum number of bytes of everything else.
_LONG_BYTES = 4096
_MAX_OTHER_BYTES = 65536

_STRING = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")


class NotBase64(ValueError):
    """The string is not valid Base64."""


class Reader:
    """Parses one object. After that, `rest` contains its members except the file."""

    def __init__(self, name: str) -> None:
        """`name` is the member that contains the file."""
        self.rest: dict[str, Any] = {}
        self._name = name
        self._placeholder = uuid.uuid4().hex
        self._other = bytearray()
        self._string: bytearray | None = None  # the current string, while it is short
        self._decoder: _Decoder | None = None
        self._in_long = False

    @property
    def has_file(self) -> bool:
        """Whether the object contained a file."""
        return self._decoder is not None

    def read(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yields the bytes of the file while the chunks of the object arrive.

        Raises `ValueError` if the object is invalid, `NotBase64` if the file is.
        """
        left = b""
        for chunk in chunks:
            left = yield from self._feed(left + chunk)
        if left or self._string is not None or self._in_long:
            raise ValueError("the JSON is incomplete")
        yield from self._finish()

    def _feed(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Parses a chunk; returns the rest of it, which may be an incomplete escape."""
        place = 0
        while place < len(data):
            if self._string is None and not self._in_long:
                quote = data.find(b'"', place)
                end = len(data) if quote < 0 else quote + 1
                self._append(data[place:end])
                if quote >= 0:
                    self._string = bytearray()
                place = end
                continue
            found = _STRING.match(data, place)
            end = found.end() if found else place
            closed = end < len(data) and data[end] == ord('"')
            yield from self._feed_string(data[place:end], closed)
            if not closed:
                return data[end:]
            place = end + 1
        return b""

    def _feed_string(self, part: bytes, closed: bool) -> Iterator[bytes]:
        if self._string is not None:
            self._string += part
            part = b""
            if len(self._string) > _LONG_BYTES:
                if self._decoder is not None:
                    raise ValueError("only one string of the object may be long")
                part, self._string = bytes(self._string), None
                self._decoder, self._in_long = _Decoder(), True
                self._append(self._placeholder.encode())
        if self._in_long and self._decoder is not None:
            yield self._decoder.decode(part, closed)
        if closed:
            self._append(bytes(self._string or b"") + b'"')
            self._string, self._in_long = None, False

    def _append(self, part: bytes) -> None:
        self._other += part
        if len(self._other) > _MAX_OTHER_BYTES:
            raise ValueError(f"more than {_MAX_OTHER_BYTES} bytes in addition to {self._name}")

    def _finish(self) -> Iterator[bytes]:
        try:
            parsed = json.loads(self._other)
        except (ValueError, RecursionError):
            raise ValueError("the body is not valid JSON") from None
        if not isinstance(parsed, dict):
            raise ValueError("the JSON is not an object")  # noqa: TRY004  # one type for all errors
        text = parsed.pop(self._name, None)
        self.rest = parsed
        if self._decoder is not None:
            if text != self._placeholder:
                raise ValueError(f"a string that is not {self._name} is too long")
        elif isinstance(text, str):
            self._decoder = _Decoder()
            yield self._decoder.decode(json.dumps(text)[1:-1].encode(), last=True)
        elif text is not None:
            raise NotBase64("it is not a string")


class _Decoder:
    """Decodes the Base64 in one JSON string."""

    def __init__(self) -> None:
        self._left = b""  # an incomplete escape
        self._group = b""  # an incomplete group of four characters
        self._padded = False

    def decode(self, part: bytes, last: bool) -> bytes:
        """Decodes the next part of the string; raises `NotBase64`."""
        part = self._left + part
        cut = None if last else _CUT_ESCAPE.search(part)
        self._left = part[cut.start() :] if cut else b""
        text = self._group + _unescaped(part[: cut.start()] if cut else part)
        whole = len(text) if last else len(text) // 4 * 4
        text, self._group = text[:whole], text[whole:]
        if not text:
            return b""
        if self._padded:
            raise NotBase64("there is data after the padding")
        self._padded = text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error as error:
            reason = str(error)[:1].lower() + str(error)[1:]
            raise NotBase64(reason) from None


def _unescaped(part: bytes) -> bytes:
    """Decodes JSON escapes, which some clients use for `/` and `+`."""
    if b"\\" not in part:
        return part
    try:
        text: str = json.loads(b'"' + part + b'"')
        return text.encode("ascii")
    except ValueError:
        raise NotBase64("it contains invalid characters") from None
