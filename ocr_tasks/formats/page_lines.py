"""The lines that a PAGE document has already, and new text for them; all else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from lxml import etree

from ocr_tasks.formats.page import Word
from ocr_tasks.formats.page_xml import (
    NAMESPACE,
    Made,
    made_element,
    text_element,
    utc,
    word_element,
)
from ocr_tasks.formats.reading import tree

_PAGE = f"{{{NAMESPACE}}}"
#: The pattern of the schema, with room for the signs and fractions of other programs.
_POINTS = re.compile(
    r"\s*-?\d{1,9}(\.\d+)?,-?\d{1,9}(\.\d+)?(\s+-?\d{1,9}(\.\d+)?,-?\d{1,9}(\.\d+)?)+\s*"
)

#: Points of a line at most.
_MOST_POINTS = 10_000

Polygon = list[tuple[int, int]]
"""Points in pixels of the page's image, at least two."""


class Lines:
    """A document of one page with lines, in memory."""

    def __init__(self, document: bytes) -> None:
        """ValueError for what is no such document, and for other versions of PAGE."""
        self._root = tree(document, "PAGE")
        if self._root.tag != f"{_PAGE}PcGts":
            raise ValueError("that is no PAGE document of 2019-07-15")
        self._lines = list(self._root.iter(f"{_PAGE}TextLine"))
        #: Where the lines are, as they come in the document.
        self.polygons = [_polygon(line) for line in self._lines]

    def put(self, texts: Sequence[Sequence[Word]], size: tuple[int, int]) -> None:
        """Gives each line its new words, in the order in which they are read, and regions theirs.

        `size` is that of the page's image. What words and text there were goes.
        """
        known = dict(zip(self._lines, texts, strict=True))
        for number, (line, words) in enumerate(known.items(), start=1):
            to_left = line.get("readingDirection") == "right-to-left"
            markup = [
                word_element(word, f"{line.get('id', '')}_{number}_{place}", size)
                for place, word in enumerate(reversed(words) if to_left else words, start=1)
            ]
            text = [text_element([words])] if words else []
            _replace(line, ("Baseline", "Coords"), markup + text)
        for region in self._root.iter(f"{_PAGE}TextRegion"):
            rows = [known[line] for line in region.findall(f"{_PAGE}TextLine")]
            if rows:
                _replace(region, ("TextLine",), [text_element(rows)] if any(rows) else [])

    def write(self, document_id: str, made: Made, when: datetime) -> bytes:
        """The document with its new id, and with who has changed it last."""
        self._root.set("pcGtsId", document_id)
        metadata = self._root.find(f"{_PAGE}Metadata")
        if metadata is not None:
            for change in metadata.findall(f"{_PAGE}LastChange"):
                change.text = utc(when)
            metadata.append(_element(made_element(made)))
        return etree.tostring(self._root, encoding="UTF-8", xml_declaration=True)


def _polygon(line: etree._Element) -> Polygon:
    coords = line.find(f"{_PAGE}Coords")
    points = "" if coords is None else coords.get("points", "")
    pairs = [point.split(",") for point in points.split()]
    if not _POINTS.fullmatch(points) or len(pairs) > _MOST_POINTS:
        raise ValueError(f"the line {line.get('id')!r:.80} has no place")
    return [(round(float(x)), round(float(y))) for x, y in pairs]


def _replace(parent: etree._Element, before: Sequence[str], markup: list[str]) -> None:
    """Puts other words and text into a line or region, behind the last of what goes before."""
    for name in ("Word", "TextEquiv"):
        for old in parent.findall(f"{_PAGE}{name}"):
            parent.remove(old)
    last = next(found[-1] for name in before if (found := parent.findall(f"{_PAGE}{name}")))
    place = parent.index(last) + 1
    parent[place:place] = map(_element, markup)


def _element(markup: str) -> etree._Element:
    return etree.fromstring(f'<a xmlns="{NAMESPACE}">{markup}</a>')[0]
