"""Text, numbers and ids as all formats write them."""

from __future__ import annotations

import html
import re

# Whitespace that separates words. A no-break space does not: it is part of a word.
_WHITESPACE = re.compile(r"[\t\n\v\f\r \x1c-\x1f\x85\u2028\u2029]+")
# https://www.w3.org/TR/xml/#charsets; a lone surrogate cannot be written in UTF-8 either.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CONTROL = re.compile(r"[\x7f-\x9f]")


def legal(markup: str) -> str:
    """Returns markup without the characters that XML 1.0 does not allow."""
    return _ILLEGAL.sub("", markup)


def plain(text: str) -> str:
    """Returns text without control characters, with whitespace collapsed to single spaces."""
    return _CONTROL.sub("", legal(_WHITESPACE.sub(" ", text))).strip(" ")


def escaped(text: str) -> str:
    """Returns plain text escaped for XML, including attribute values."""
    return html.escape(plain(text))


def decimal(value: float, digits: int) -> str:
    """Formats a number with at most `digits` decimals and without an exponent."""
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    written = f"{round(value, digits) + 0.0:.{digits}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


class Ids:
    """Ids of elements of one page in Tesseract's form: kind, page, number within that kind."""

    def __init__(self, page: int) -> None:
        self._page = page
        self._counts: dict[str, int] = {}

    def next(self, kind: str) -> str:
        """Returns the next id of a kind, e.g. `word_1_7`."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}_{self._page}_{self._counts[kind]}"
