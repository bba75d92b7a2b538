"""How text and numbers are put down, whatever the format."""

from __future__ import annotations

import html
import re

# What parts words. A no-break space does not: it is inside a word on purpose.
_GAP = re.compile(r"[\t\n\v\f\r \x1c-\x1f\x85\u2028\u2029]+")
# https://www.w3.org/TR/xml/#charsets; a lone surrogate cannot be written in UTF-8 either.
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CONTROL = re.compile(r"[\x7f-\x9f]")


def legal(markup: str) -> str:
    """Markup without the characters that XML 1.0 has no place for."""
    return _ILLEGAL.sub("", markup)


def plain(text: str) -> str:
    """Text without control characters, with one space where a line break or a tab was."""
    return _CONTROL.sub("", legal(_GAP.sub(" ", text))).strip(" ")


def escaped(text: str) -> str:
    """Plain text as it may stand in XML, also in an attribute."""
    return html.escape(plain(text))


def decimal(value: float, digits: int) -> str:
    """A number with at most `digits` decimals, never with an exponent."""
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    written = f"{round(value, digits) + 0.0:.{digits}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


class Ids:
    """Ids of one page as Tesseract writes them: kind, page, number of that kind on the page."""

    def __init__(self, page: int) -> None:
        self._page = page
        self._counts: dict[str, int] = {}

    def next(self, kind: str) -> str:
        """The next id of a kind (`word_1_7`)."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}_{self._page}_{self._counts[kind]}"
