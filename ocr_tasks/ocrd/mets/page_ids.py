"""OCR-D's syntax for pages of a METS file: `PHYS_0001,PHYS_0005..PHYS_0009,//PHYS_1.*,~PHYS_0007`.

Each comma-separated part is the value of an attribute, a range of values, or `//` and a regular
expression that matches whole values; `~` before it excludes pages. A part can name the attribute,
e.g. `physical:order:3` or `logical:type:chapter`; otherwise the first attribute with such a value
counts, the page's ID first. The rules are those of `ocrd_models.ocrd_mets`, without two of its
bugs: each page is returned once, and a range increments only the last number in an ID.

Regular expressions come from clients. They are matched by RE2, in time linear in the length of the
text and with bounded memory; back-references and lookaround are not supported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import re2

from ocr_tasks.ocrd.errors import PageIdsInvalid

#: Attributes that can select pages, in the order in which they are tried.
ATTRIBUTES = (
    *("physical:id", "physical:order", "physical:orderlabel", "physical:label"),
    *("physical:contentids", "logical:id", "logical:dmdid", "logical:type", "logical:label"),
)
#: Attributes that do not support ranges.
_NO_RANGES = {"logical:type", "logical:label"}

_LONGEST = 1 << 20
#: Maximum number of steps for one `page_id`: enough for 100,000 pages, about two seconds.
_STEPS = 2_000_000
#: Number of characters that one step matches.
_STEP_CHARACTERS = 64

#: Maximum bytes of a compiled regular expression, and maximum characters of its source.
_EXPRESSION_BYTES = 1 << 20
_EXPRESSION_LENGTH = 200

#: What \d, \s and \w match in Python, as the content of brackets.
_CLASSES = {
    "d": r"\p{Nd}",
    "s": r"\s\x0b\x1c-\x1f\x{85}\p{Z}",
    "w": r"\p{L}\p{N}_",
}
_EXPRESSION_PARTS = re.compile(r"\\.|\[\^?|.", re.DOTALL)

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)

#: Returns the page ids by value, for an attribute of `ATTRIBUTES`.
Values = Callable[[str], Mapping[str, Sequence[str]]]


class _BudgetExceeded(Exception):
    """No steps are left."""


class _Budget:
    """The steps that are left for a `page_id`."""

    def __init__(self) -> None:
        self._left = _STEPS

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _BudgetExceeded


def is_page_id(text: str) -> bool:
    """Returns whether this can be a page id, and has no special meaning in a list of pages."""
    return _ID.fullmatch(text) is not None and ".." not in text


def resolve(page_id: str, pages: Sequence[str], values: Values) -> list[str]:
    """Returns the ids of the selected pages, in the order of `pages`; '' selects all.

    Raises PageIdsInvalid.
    """
    if not page_id:
        return list(pages)
    if len(page_id) > _LONGEST:
        raise PageIdsInvalid(f"The page ids have more than {_LONGEST} characters")
    included: set[str] = set()
    excluded: set[str] = set()
    only_excluded = True
    budget = _Budget()
    for token in page_id.split(","):
        attributes, rest = _attributes(token)
        negative = rest.startswith("~")
        found = _matching(token, rest.removeprefix("~"), attributes, values, budget)
        (excluded if negative else included).update(found)
        only_excluded &= negative
    left = [page for page in pages if (only_excluded or page in included) and page not in excluded]
    if not left:
        raise PageIdsInvalid("No pages are selected")
    return left


def _attributes(token: str) -> tuple[Sequence[str], str]:
    """Returns the attributes that a part refers to, and the rest of the part."""
    for attribute in ATTRIBUTES:
        if token.startswith(f"{attribute}:"):
            return [attribute], token[len(attribute) + 1 :]
    for kind in ("physical:", "logical:"):
        if token.startswith(kind):
            return [name for name in ATTRIBUTES if name.startswith(kind)], token[len(kind) :]
    return ATTRIBUTES, token


def _matching(
    token: str, text: str, attributes: Sequence[str], values: Values, budget: _Budget
) -> set[str]:
    try:
        find, is_range = _finder(text, budget)
        for attribute in attributes:
            if is_range and attribute in _NO_RANGES:
                continue
            pages = values(attribute)
            found = {page for value in find(pages) for page in pages[value]}
            if found:
                budget.spend(len(found))
                return found
    except _BudgetExceeded:
        raise PageIdsInvalid(f"{token!r:.100} takes too long to match") from None
    except ValueError as error:
        raise PageIdsInvalid(f"{token!r:.100} is invalid: {error}") from None
    raise PageIdsInvalid(f"No page matches {token!r:.100}")


_Find = Callable[[Mapping[str, Sequence[str]]], Sequence[str]]


def _finder(text: str, budget: _Budget) -> tuple[_Find, bool]:
    """Returns a function that finds matching values, and whether the text is a range."""
    if not text:
        raise ValueError("the part is empty")
    if text.startswith("//"):
        if len(text) == 2:
            raise ValueError("the regular expression is empty")
        return _expression(text[2:], budget), False
    if ".." in text:
        start, _, end = text.partition("..")
        return _range(start, end, budget), True
    return (lambda pages: [text] if text in pages else []), False


def _expression(text: str, budget: _Budget) -> _Find:
    if len(text) > _EXPRESSION_LENGTH:
        raise ValueError(f"the regular expression has more than {_EXPRESSION_LENGTH} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_BYTES
    try:
        pattern = re2.compile(_with_unicode_classes(text), options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace")) from None

    def find(pages: Mapping[str, Sequence[str]]) -> Sequence[str]:
        budget.spend(sum(1 + len(value) // _STEP_CHARACTERS for value in pages))
        return [value for value in pages if pattern.fullmatch(value)]

    return find


def _with_unicode_classes(text: str) -> str:
    r"""Replaces \d, \s and \w by classes that match as in Python: RE2's match only ASCII.

    Raises ValueError for \S and \W in brackets, which RE2 cannot express.
    """
    parts: list[str] = []
    first = 0  # the index of the first part in brackets, 0 outside of brackets
    for part in _EXPRESSION_PARTS.findall(text):
        name = part[1:] if part[0] == "\\" else ""
        if part[0] == "[" and not first:
            first = len(parts) + 1
        elif part == "]" and len(parts) > first:
            first = 0
        elif name in _CLASSES:
            part = _CLASSES[name] if first else f"[{_CLASSES[name]}]"
        elif name.lower() in _CLASSES:
            if first and name != "D":
                raise ValueError(f"{part} in brackets is not supported")
            part = r"\P{Nd}" if first else f"[^{_CLASSES[name.lower()]}]"
        parts.append(part)
    return "".join(parts)


def _range(start: str, end: str, budget: _Budget) -> _Find:
    first, last = _NUMBERED.fullmatch(start), _NUMBERED.fullmatch(end)
    if first is None or last is None:
        raise ValueError("both ends of a range must end with a number")
    before, width = first[1], len(first[2])
    if before != last[1]:
        raise ValueError("both ends of a range must have the same text before the number")
    numbers = range(int(first[2]), int(last[2]) + 1)

    def find(pages: Mapping[str, Sequence[str]]) -> Sequence[str]:
        # A range may have a huge end: iterate over the values if they are fewer.
        budget.spend(min(len(numbers), len(pages)))
        if len(numbers) <= len(pages):
            return [v for v in (f"{before}{n:0{width}d}" for n in numbers) if v in pages]
        return [value for value in pages if _in_range(value, before, width, numbers)]

    return find


def _in_range(value: str, before: str, width: int, numbers: range) -> bool:
    digits = value.removeprefix(before)
    if not value.startswith(before) or not re.fullmatch(r"[0-9]{1,18}", digits):
        return False
    return int(digits) in numbers and f"{int(digits):0{width}d}" == digits
