"""OCR-D's syntax for pages of a METS file: `PHYS_0001,PHYS_0005..PHYS_0009,//PHYS_1.*,~PHYS_0007`.

Each comma-separated part is the value of an attribute, a range of values, or `//` and a regular
expression that matches whole values; `~` before it excludes pages. A part can name the attribute,
e.g. `physical:order:3` or `logical:type:chapter`; otherwise the first attribute with such a value
counts, the page's ID first. The rules are those of `ocrd_models.ocrd_mets`, without two of its
bugs: each page is returned once, and only the last number in an ID is counted up.

Regular expressions are matched by RE2, in time linear to the text and with bounded memory, as they
come from clients. It has no back-references and no lookaround.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import re2

from ocr_tasks.errors import PageIdsInvalid

#: Attributes by which pages are named, in the order in which they are tried.
ATTRIBUTES = (
    *("physical:id", "physical:order", "physical:orderlabel", "physical:label"),
    *("physical:contentids", "logical:id", "logical:dmdid", "logical:type", "logical:label"),
)
#: Those whose values nobody counts.
_UNCOUNTED = {"logical:type", "logical:label"}

_LONGEST = 1 << 20
#: Steps for one `page_id`: enough for a hundred thousand pages, and about two seconds at most.
_STEPS = 2_000_000
#: Characters of a value that one step matches.
_STEP_CHARACTERS = 64

#: Bytes that a compiled expression may take, and characters that it may have.
_EXPRESSION_BYTES = 1 << 20
_EXPRESSION_LENGTH = 200

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)

#: The ids of pages by value of an attribute of `ATTRIBUTES`.
Values = Callable[[str], Mapping[str, Sequence[str]]]


class _TooMuchWork(Exception):
    """No steps are left."""


class _Work:
    """The steps that are left for a `page_id`."""

    def __init__(self) -> None:
        self._left = _STEPS

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooMuchWork


def is_page_id(text: str) -> bool:
    """Whether this can be the id of a page, and nothing else in a list of pages."""
    return _ID.fullmatch(text) is not None and ".." not in text


def resolve(page_id: str, pages: Sequence[str], values: Values) -> list[str]:
    """The ids of the pages that are meant, in the order of `pages`; '' means all."""
    if not page_id:
        return list(pages)
    if len(page_id) > _LONGEST:
        raise PageIdsInvalid(f"The page ids have more than {_LONGEST} characters")
    wanted: set[str] = set()
    unwanted: set[str] = set()
    only_unwanted = True
    work = _Work()
    for token in page_id.split(","):
        attributes, rest = _attributes(token)
        negative = rest.startswith("~")
        found = _matching(token, rest.removeprefix("~"), attributes, values, work)
        (unwanted if negative else wanted).update(found)
        only_unwanted &= negative
    left = [page for page in pages if (only_unwanted or page in wanted) and page not in unwanted]
    if not left:
        raise PageIdsInvalid("No pages are selected")
    return left


def _attributes(token: str) -> tuple[Sequence[str], str]:
    """The attributes that a part may mean, and what follows their name."""
    for attribute in ATTRIBUTES:
        if token.startswith(f"{attribute}:"):
            return [attribute], token[len(attribute) + 1 :]
    for kind in ("physical:", "logical:"):
        if token.startswith(kind):
            return [name for name in ATTRIBUTES if name.startswith(kind)], token[len(kind) :]
    return ATTRIBUTES, token


def _matching(
    token: str, text: str, attributes: Sequence[str], values: Values, work: _Work
) -> set[str]:
    try:
        find, uncounted = _search(text, work)
        for attribute in attributes:
            if uncounted and attribute in _UNCOUNTED:
                continue
            pages = values(attribute)
            found = {page for value in find(pages) for page in pages[value]}
            if found:
                work.spend(len(found))
                return found
    except _TooMuchWork:
        raise PageIdsInvalid(f"{token!r:.100} takes too long to match") from None
    except ValueError as error:
        raise PageIdsInvalid(f"{token!r:.100} is invalid: {error}") from None
    raise PageIdsInvalid(f"No page matches {token!r:.100}")


_Find = Callable[[Mapping[str, Sequence[str]]], Sequence[str]]


def _search(text: str, work: _Work) -> tuple[_Find, bool]:
    """What finds the values that are meant, and whether it counts."""
    if not text:
        raise ValueError("it is empty")
    if text.startswith("//"):
        if len(text) == 2:
            raise ValueError("the expression is empty")
        return _expression(text[2:], work), False
    if ".." in text:
        start, _, end = text.partition("..")
        return _range(start, end, work), True
    return (lambda pages: [text] if text in pages else []), False


def _expression(text: str, work: _Work) -> _Find:
    if len(text) > _EXPRESSION_LENGTH:
        raise ValueError(f"more than {_EXPRESSION_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_BYTES
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace")) from None

    def find(pages: Mapping[str, Sequence[str]]) -> Sequence[str]:
        work.spend(sum(1 + len(value) // _STEP_CHARACTERS for value in pages))
        return [value for value in pages if pattern.fullmatch(value)]

    return find


def _range(start: str, end: str, work: _Work) -> _Find:
    first, last = _NUMBERED.fullmatch(start), _NUMBERED.fullmatch(end)
    if first is None or last is None:
        raise ValueError("a range goes from one number to another")
    before, width = first[1], len(first[2])
    if before != last[1]:
        raise ValueError("a range has the same text before both numbers")
    numbers = range(int(first[2]), int(last[2]) + 1)

    def find(pages: Mapping[str, Sequence[str]]) -> Sequence[str]:
        # The end of a range may be any number: no more is counted than there are values.
        work.spend(min(len(numbers), len(pages)))
        if len(numbers) <= len(pages):
            return [v for v in (f"{before}{n:0{width}d}" for n in numbers) if v in pages]
        return [value for value in pages if _counted(value, before, width, numbers)]

    return find


def _counted(value: str, before: str, width: int, numbers: range) -> bool:
    digits = value.removeprefix(before)
    if not value.startswith(before) or not re.fullmatch(r"[0-9]{1,18}", digits):
        return False
    return int(digits) in numbers and f"{int(digits):0{width}d}" == digits
