"""OCR-D's way to name pages of a METS file: `PHYS_0001,PHYS_0005..PHYS_0009,//PHYS_1.*,~PHYS_0007`.

Each part, between commas, is the value of an attribute, a range of such values, or an expression
that matches them whole; a `~` before it takes pages away. Which attribute is meant may be said
before that, as in `physical:order:3` or `logical:type:chapter`; else the first one counts that has
such a value, and the page's id comes first. After the rules of `ocrd_models.ocrd_mets`, but for two
of its faults: each page is told once, and only the last number in an id is counted up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ocr_tasks.errors import PageIdsInvalid
from ocr_tasks.ocrd.mets.expressions import Expression, TooMuchWork, Work

#: Attributes by which pages are named, in the order in which they are tried.
ATTRIBUTES = (
    *("physical:id", "physical:order", "physical:orderlabel", "physical:label"),
    *("physical:contentids", "logical:id", "logical:dmdid", "logical:type", "logical:label"),
)
#: Those whose values nobody counts.
_UNCOUNTED = {"logical:type", "logical:label"}

_LONGEST = 1 << 20
#: Steps for one `page_id`: enough for a hundred thousand pages, and about two seconds at most.
_STEPS = 4_000_000

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)

#: The ids of pages by value of an attribute of `ATTRIBUTES`.
Values = Callable[[str], Mapping[str, Sequence[str]]]


def is_page_id(text: str) -> bool:
    """Whether this can be the id of a page, and nothing else in a list of pages."""
    return _ID.fullmatch(text) is not None and ".." not in text


def resolve(page_id: str, pages: Sequence[str], values: Values) -> list[str]:
    """The ids of the pages that are meant, in the order of `pages`; '' means all."""
    if not page_id:
        return list(pages)
    if len(page_id) > _LONGEST:
        raise PageIdsInvalid(f"more than {_LONGEST} characters")
    wanted: set[str] = set()
    unwanted: set[str] = set()
    only_unwanted = True
    work = Work(_STEPS)
    for token in page_id.split(","):
        attributes, rest = _attributes(token)
        negative = rest.startswith("~")
        found = _matching(token, rest.removeprefix("~"), attributes, values, work)
        (unwanted if negative else wanted).update(found)
        only_unwanted &= negative
    left = [page for page in pages if (only_unwanted or page in wanted) and page not in unwanted]
    if not left:
        raise PageIdsInvalid("no page is left")
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
    token: str, text: str, attributes: Sequence[str], values: Values, work: Work
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
    except TooMuchWork:
        raise PageIdsInvalid(f"{token!r:.100} takes too long to match") from None
    except ValueError as error:
        raise PageIdsInvalid(f"{token!r:.100} cannot be read: {error}") from None
    raise PageIdsInvalid(f"no page is {token!r:.100}")


_Find = Callable[[Mapping[str, Sequence[str]]], Sequence[str]]


def _search(text: str, work: Work) -> tuple[_Find, bool]:
    """What finds the values that are meant, and whether it counts."""
    if not text:
        raise ValueError("it is empty")
    if text.startswith("//"):
        if len(text) == 2:
            raise ValueError("the expression is empty")
        expression = Expression(text[2:], work)
        return (lambda pages: [value for value in pages if expression.matches(value)]), False
    if ".." in text:
        start, _, end = text.partition("..")
        return _range(start, end, work), True
    return (lambda pages: [text] if text in pages else []), False


def _range(start: str, end: str, work: Work) -> _Find:
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
