"""A JSON object with a file in it as base64, taken apart while it comes, in little memory.

Of all but one string an object is short: the long one is decoded on the way, and a mark stands in
its place when the rest is parsed. Base64 is that of RFC 4648, section 4, with its padding.
"""

from __future__ import annotations

import binascii
import json
import re
import uuid
from collections.abc import Generator, Iterable, Iterator
from typing import Any

#: Bytes from which on a string is the long one, and bytes of all that is beside it.
_LONG = 4096
_MOST_BESIDE = 65536

_STRING = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")


class NotBase64(ValueError):
    """The string is no base64."""


class Reader:
    """Reads one object; `rest` is what stands in it beside the file, once all has been read."""

    def __init__(self, name: str) -> None:
        """`name` is that of the member which holds the file."""
        self.rest: dict[str, Any] = {}
        self._name = name
        self._mark = uuid.uuid4().hex
        self._beside = bytearray()
        self._string: bytearray | None = None  # the one that is being read, while it is short
        self._decoder: _Decoder | None = None
        self._in_long = False

    @property
    def has_file(self) -> bool:
        """Whether the object held a file."""
        return self._decoder is not None

    def read(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The bytes of the file, as the pieces of the object come.

        ValueError where it is no such object, NotBase64 where the file is not written as it should.
        """
        left = b""
        for piece in pieces:
            left = yield from self._take(left + piece)
        if left or self._string is not None or self._in_long:
            raise ValueError("the JSON ends in the middle")
        yield from self._finish()

    def _take(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Takes all but what may be the first half of an escape, which is given back."""
        place = 0
        while place < len(data):
            if self._string is None and not self._in_long:
                quote = data.find(b'"', place)
                end = len(data) if quote < 0 else quote + 1
                self._keep(data[place:end])
                if quote >= 0:
                    self._string = bytearray()
                place = end
                continue
            found = _STRING.match(data, place)
            end = found.end() if found else place
            closed = end < len(data) and data[end] == ord('"')
            yield from self._take_string(data[place:end], closed)
            if not closed:
                return data[end:]
            place = end + 1
        return b""

    def _take_string(self, part: bytes, closed: bool) -> Iterator[bytes]:
        if self._string is not None:
            self._string += part
            part = b""
            if len(self._string) > _LONG:
                if self._decoder is not None:
                    raise ValueError("only one string of the object may be long")
                part, self._string = bytes(self._string), None
                self._decoder, self._in_long = _Decoder(), True
                self._keep(self._mark.encode())
        if self._in_long and self._decoder is not None:
            yield self._decoder.decode(part, closed)
        if closed:
            self._keep(bytes(self._string or b"") + b'"')
            self._string, self._in_long = None, False

    def _keep(self, part: bytes) -> None:
        self._beside += part
        if len(self._beside) > _MOST_BESIDE:
            raise ValueError(f"beside {self._name} are more than {_MOST_BESIDE} bytes")

    def _finish(self) -> Iterator[bytes]:
        try:
            parsed = json.loads(self._beside)
        except (ValueError, RecursionError):
            raise ValueError("the body is not valid JSON") from None
        if not isinstance(parsed, dict):
            raise ValueError("the JSON is not an object")  # noqa: TRY004  # one kind for all faults
        text = parsed.pop(self._name, None)
        self.rest = parsed
        if self._decoder is not None:
            if text != self._mark:
                raise ValueError(f"a string that is not {self._name} is too long")
        elif isinstance(text, str):
            self._decoder = _Decoder()
            yield self._decoder.decode(json.dumps(text)[1:-1].encode(), last=True)
        elif text is not None:
            raise NotBase64("it is not a string")


class _Decoder:
    """Decodes the characters of one JSON string."""

    def __init__(self) -> None:
        self._left = b""  # an escape that was cut
        self._group = b""  # less than the four characters that make three bytes
        self._padded = False

    def decode(self, part: bytes, last: bool) -> bytes:
        """The bytes of the next part; NotBase64 where it is none."""
        part = self._left + part
        cut = None if last else _CUT_ESCAPE.search(part)
        self._left = part[cut.start() :] if cut else b""
        text = self._group + _unescaped(part[: cut.start()] if cut else part)
        whole = len(text) if last else len(text) // 4 * 4
        text, self._group = text[:whole], text[whole:]
        if not text:
            return b""
        if self._padded:
            raise NotBase64("something follows the padding")
        self._padded = text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error as error:
            reason = str(error)[:1].lower() + str(error)[1:]
            raise NotBase64(reason) from None


def _unescaped(part: bytes) -> bytes:
    """What stands in a string of JSON: some programs write / and + as escapes."""
    if b"\\" not in part:
        return part
    try:
        text: str = json.loads(b'"' + part + b'"')
        return text.encode("ascii")
    except ValueError:
        raise NotBase64("it has characters that base64 has not") from None
