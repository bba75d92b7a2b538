"""Replaces the text of the lines of an existing PAGE document. Everything else is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from lxml import etree

from ocr_tasks.formats.page import Word
from ocr_tasks.formats.untrusted_xml import tree
from ocr_tasks.ocrd.page_xml import (
    NAMESPACE,
    Made,
    made_element,
    text_element,
    utc,
    word_element,
)

_PAGE = f"{{{NAMESPACE}}}"
#: The schema's pattern, extended by the signs and fractions that other programs write.
_POINTS = re.compile(
    r"\s*-?\d{1,9}(\.\d+)?,-?\d{1,9}(\.\d+)?(\s+-?\d{1,9}(\.\d+)?,-?\d{1,9}(\.\d+)?)+\s*"
)

#: Maximum number of points of a line.
_MAX_POINTS = 10_000

Polygon = list[tuple[int, int]]
"""At least two points, in pixels of the page's image."""


class Lines:
    """A PAGE document with lines, held in memory."""

    def __init__(self, document: bytes) -> None:
        """Parses a document. ValueError if it is invalid or not version 2019-07-15."""
        self._root = tree(document, "PAGE")
        if self._root.tag != f"{_PAGE}PcGts":
            raise ValueError("not a PAGE document of version 2019-07-15")
        self._lines = list(self._root.iter(f"{_PAGE}TextLine"))
        #: The outlines of the lines, in document order.
        self.polygons = [_polygon(line) for line in self._lines]

    def put(self, texts: Sequence[Sequence[Word]], size: tuple[int, int]) -> None:
        """Replaces the words and the text of all lines, and the text of their regions.

        `texts` contains the words of each line in reading order. `size` is the width and height of
        the page's image in pixels.
        """
        new_words = dict(zip(self._lines, texts, strict=True))
        for number, (line, words) in enumerate(new_words.items(), start=1):
            right_to_left = line.get("readingDirection") == "right-to-left"
            markup = [
                word_element(word, f"{line.get('id', '')}_{number}_{position}", size)
                for position, word in enumerate(
                    reversed(words) if right_to_left else words, start=1
                )
            ]
            text = [text_element([words])] if words else []
            _replace(line, ("Baseline", "Coords"), markup + text)
        for region in self._root.iter(f"{_PAGE}TextRegion"):
            rows = [new_words[line] for line in region.findall(f"{_PAGE}TextLine")]
            if rows:
                _replace(region, ("TextLine",), [text_element(rows)] if any(rows) else [])

    def write(self, document_id: str, made: Made, when: datetime) -> bytes:
        """Returns the document with a new id, and `made` as its last processing step."""
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
    if not _POINTS.fullmatch(points) or len(pairs) > _MAX_POINTS:
        raise ValueError(f"the line {line.get('id')!r:.80} has no valid coordinates")
    return [(round(float(x)), round(float(y))) for x, y in pairs]


def _replace(parent: etree._Element, before: Sequence[str], markup: list[str]) -> None:
    """Replaces the words and the text of a line or region.

    `before` are the element names after which the schema puts them.
    """
    for name in ("Word", "TextEquiv"):
        for old in parent.findall(f"{_PAGE}{name}"):
            parent.remove(old)
    last = next(rows[-1] for name in before if (rows := parent.findall(f"{_PAGE}{name}")))
    index = parent.index(last) + 1
    parent[index:index] = map(_element, markup)


def _element(markup: str) -> etree._Element:
    return etree.fromstring(f'<a xmlns="{NAMESPACE}">{markup}</a>')[0]
