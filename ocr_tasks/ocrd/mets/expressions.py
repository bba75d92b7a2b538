"""Regular expressions of strangers, matched in bounded time.

Python's `re` tries one way after the other, for ever if the expression is made for that, and cannot
be stopped. So expressions are read here, and matched by walking all ways at once: the places that
may have been reached in the text are one set, and each step is counted. What this cannot do
(groups referred to, looking ahead) is refused; `re` judges single characters only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

LONGEST = 200

_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\\[])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[dwsDWS]|[^A-Za-z0-9])", re.DOTALL)
_TIMES = re.compile(r"\{([0-9]{1,3})\}")

#: Goes on from places in a text, and gives the places that are then reached.
_Node = Callable[[str, set[int]], set[int]]


class TooMuchWork(Exception):
    """No steps are left."""


class Work:
    """The steps that are left, for all expressions of a request together."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Takes some steps away."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork


class Expression:
    """A regular expression that matches whole texts.

    ValueError where it cannot be read, or wants more than is offered here.
    """

    def __init__(self, text: str, work: Work) -> None:
        if len(text) > LONGEST:
            raise ValueError(f"more than {LONGEST} characters")
        self._node = _Reader(text, work).read()

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return len(text) in self._node(text, {0})


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str, work: Work) -> None:
        self._text = text
        self._at = 0
        self._work = work

    def read(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):
            raise ValueError("a ) too many")
        return node

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _choice(self) -> _Node:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else partial(_any_of, self._work, ways)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return partial(_all_of, self._work, parts)

    def _repeated(self, node: _Node) -> _Node:
        least, more = 1, False
        times = _TIMES.match(self._text, self._at)
        if times:
            self._at = times.end()
            least = int(times[1])
        elif self._take("*"):
            least, more = 0, True
        elif self._take("+"):
            more = True
        elif self._take("?"):
            return partial(_any_of, self._work, [node, partial(_all_of, self._work, [])])
        else:
            return node
        self._take("?")  # which way is tried first makes no difference here
        return partial(_repeat, self._work, node, least, more)

    def _atom(self) -> _Node:
        if self._take("("):
            if not self._take("?:") and self._text.startswith("?", self._at):
                raise ValueError("(?…) is not offered here, but for (?:…)")
            node = self._choice()
            if not self._take(")"):
                raise ValueError("a ) is missing")
            return node
        if self._take("^"):
            return lambda text, places: places & {0}
        if self._take("$"):
            return lambda text, places: places & {len(text)}
        return partial(_step, self._work, self._character())

    def _character(self) -> Callable[[str], bool]:
        first = self._text[self._at]
        if first in "*+?{":
            raise ValueError(f"{first} stands where nothing is to be repeated")
        form = {"[": _CLASS, "\\": _ESCAPE}.get(first)
        if form is None:
            self._at += 1
            return (lambda _: True) if first == "." else first.__eq__
        found = form.match(self._text, self._at)
        if found is None:
            raise ValueError(f"{first} cannot be read")
        self._at = found.end()
        try:
            one = re.compile(found[0])
        except (re.error, FutureWarning) as error:
            raise ValueError(str(error)) from None
        return lambda character: one.fullmatch(character) is not None


def _step(work: Work, fits: Callable[[str], bool], text: str, places: set[int]) -> set[int]:
    work.spend(len(places))
    end = len(text)
    return {place + 1 for place in places if place < end and fits(text[place])}


def _all_of(work: Work, parts: list[_Node], text: str, places: set[int]) -> set[int]:
    work.spend(1)
    for part in parts:
        if not places:
            break
        places = part(text, places)
    return places


def _any_of(work: Work, ways: list[_Node], text: str, places: set[int]) -> set[int]:
    work.spend(len(ways))
    return set().union(*(way(text, places) for way in ways))


def _repeat(
    work: Work, node: _Node, least: int, more: bool, text: str, places: set[int]
) -> set[int]:
    work.spend(1)
    for _ in range(least):
        places = node(text, places)
    reached, new = set(places), places
    while more and new:
        new = node(text, new) - reached
        reached |= new
    return reached
