"""Writes PAGE-XML 2019-07-15, OCR-D's format for pages, and parses parts of it.

Schema: https://www.primaresearch.org/schema/PAGE/gts/pagecontent/2019-07-15/pagecontent.xsd.
OCR-D's conventions: https://ocr-d.de/en/spec/page. A document describes one page, in pixels of the
image that it names.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from ocr_tasks.formats.page import Box, Line, Page, Paragraph, Word, bounding_box
from ocr_tasks.formats.untrusted_xml import tree
from ocr_tasks.formats.writing import Ids, decimal, escaped, legal, plain

MEDIA_TYPE = "application/vnd.prima.page+xml"

_FAMILY = "http://schema.primaresearch.org/PAGE/gts/pagecontent/"
NAMESPACE = f"{_FAMILY}2019-07-15"
_DIRECTIONS = {"ltr": "left-to-right", "rtl": "right-to-left"}

#: Features of alternative images whose pixels have other positions than in the page's image.
_MOVED = ("cropped", "deskewed", "rotated", "dewarped", "clipped")


@dataclass(frozen=True, slots=True)
class Alternative:
    """An alternative image of a page, and how it was processed (e.g. `binarized,despeckled`)."""

    image: str
    features: str

    @property
    def in_place(self) -> bool:
        """Whether its pixels have the same positions as in the page's own image."""
        return not any(feature.strip().startswith(_MOVED) for feature in self.features.split(","))


@dataclass(frozen=True, slots=True)
class Source:
    """The images that a document names, with paths relative to the METS file.

    `regions` and `lines` are the numbers of text regions and text lines in the document.
    """

    image: str
    alternatives: tuple[Alternative, ...] = ()
    regions: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """The processor that created a document: program, OCR-D step, version and parameters."""

    executable: str
    step: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read(document: bytes | str) -> Source:
    """Returns the images that a PAGE document names. Accepts all versions of PAGE.

    Raises ValueError if it is not well-formed, uses entities, or does not have exactly one page.
    """
    root = tree(document, "PAGE")
    if not _namespace(root).startswith(_FAMILY):
        raise ValueError("not a PAGE document")
    pages = list(_named(root, "Page"))
    if len(pages) != 1:
        raise ValueError(f"the PAGE document has {len(pages)} pages instead of one")
    (page,) = pages
    alternatives = tuple(
        Alternative(element.get("filename", ""), element.get("comments", ""))
        for element in page
        if etree.QName(element).localname == "AlternativeImage"
    )
    regions, lines = (sum(1 for _ in _named(page, name)) for name in ("TextRegion", "TextLine"))
    return Source(page.get("imageFilename", ""), alternatives, regions, lines)


def document(
    page: Page, source: Source, document_id: str, creator: str, made: Made | None, when: datetime
) -> Iterator[str]:
    """Yields a PAGE document region by region, to be encoded as UTF-8.

    `page` is in pixels of the image of `source`. `document_id` is an xsd:ID, `creator` the software
    and its version. `when` must have a time zone. Paragraphs become regions. The language of a
    paragraph is omitted, because PAGE uses its own list of English names.
    """
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<PcGts xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{NAMESPACE} {NAMESPACE}/pagecontent.xsd" '
        f'pcGtsId="{escaped(document_id)}">\n'
    )
    yield "".join(_metadata(creator, made, when))
    yield (
        f'<Page imageFilename="{_path(source.image)}" imageWidth="{page.width}" '
        f'imageHeight="{page.height}" imageXResolution="{decimal(page.dpi, 2)}" '
        f'imageYResolution="{decimal(page.dpi, 2)}" imageResolutionUnit="PPI">\n'
    )
    for other in source.alternatives:
        features = escaped(other.features)
        yield f'<AlternativeImage filename="{_path(other.image)}" comments="{features}"/>\n'
    regions = [region for region in map(_with_text, page.paragraphs) if region]
    if regions:
        yield "".join(_reading_order(len(regions)))
    ids = Ids(1)
    for region in regions:
        yield "\n".join(_text_region(region, ids, (page.width, page.height))) + "\n"
    yield "</Page>\n</PcGts>\n"


def _metadata(creator: str, made: Made | None, when: datetime) -> Iterator[str]:
    time = utc(when)
    yield f"<Metadata>\n<Creator>{escaped(creator)}</Creator>\n"
    yield f"<Created>{time}</Created>\n<LastChange>{time}</LastChange>\n"
    if made:
        yield made_element(made)
    yield "</Metadata>\n"


def utc(when: datetime) -> str:
    """Formats a time as the schema requires, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def made_element(made: Made) -> str:
    """Returns the metadata element that describes a processing step."""
    executable = escaped(made.executable)
    labels = "".join(
        f'<Label type="{escaped(name)}" '
        f'value="{escaped(value if isinstance(value, str) else json.dumps(value))}"/>'
        for name, value in made.parameters.items()
    )
    return (
        f'<MetadataItem type="processingStep" name="{escaped(made.step)}" value="{executable}">\n'
        f'<Labels externalModel="ocrd-tool" externalId="parameters">{labels}</Labels>\n'
        '<Labels externalModel="ocrd-tool" externalId="version">'
        f'<Label type="{executable}" value="{escaped(made.version)}"/></Labels>\n'
        "</MetadataItem>\n"
    )


def _reading_order(regions: int) -> Iterator[str]:
    yield '<ReadingOrder>\n<OrderedGroup id="reading_order">\n'
    for index in range(regions):
        yield f'<RegionRefIndexed index="{index}" regionRef="region_1_{index + 1}"/>\n'
    yield "</OrderedGroup>\n</ReadingOrder>\n"


def _with_text(paragraph: Paragraph) -> Paragraph | None:
    """Returns the paragraph without empty words and lines, or None if it has no text."""
    lines = tuple(
        Line(line.box, line.baseline, words, line.angle)
        for line in paragraph.lines
        if (words := tuple(word for word in line.words if plain(word.text)))
    )
    return Paragraph(paragraph.box, None, paragraph.direction, lines) if lines else None


def _text_region(region: Paragraph, ids: Ids, size: tuple[int, int]) -> Iterator[str]:
    direction = _direction(region)
    box = bounding_box([region.box, *(_line_box(line) for line in region.lines)])
    yield f'<TextRegion id="{ids.next("region")}" type="paragraph"{direction}>'
    yield _coords(box, size)
    for line in region.lines:
        yield f'<TextLine id="{ids.next("line")}"{direction}>'
        yield from _text_line(line, region.direction == "rtl", ids, size)
        yield "</TextLine>"
    yield text_element([line.words for line in region.lines])
    yield "</TextRegion>"


def _text_line(line: Line, right_to_left: bool, ids: Ids, size: tuple[int, int]) -> Iterator[str]:
    box = _clip(_line_box(line), size)
    yield _coords(box, size)
    yield from _baseline(line, box)
    # OCR-D stores words from left to right, and reverses them for right-to-left text.
    for word in reversed(line.words) if right_to_left else line.words:
        yield word_element(word, ids.next("word"), size)
    yield text_element([line.words])


def _direction(region: Paragraph) -> str:
    # OCR-D does not use the region's direction for lines without one, so lines get it as well.
    if region.direction is None:
        return ""
    return f' readingDirection="{_DIRECTIONS[region.direction]}"'


def _line_box(line: Line) -> Box:
    return bounding_box([line.box, *(word.box for word in line.words)])


def word_element(word: Word, word_id: str, size: tuple[int, int]) -> str:
    """Returns the element of a word. `size` is the width and height of the page in pixels."""
    text = text_element([[word]])
    return f'<Word id="{escaped(word_id)}">{_coords(word.box, size)}{text}</Word>'


def text_element(lines: Iterable[Sequence[Word]]) -> str:
    """Returns the element with the text of lines, and their mean confidence.

    Words are weighted by their numbers of characters.
    """
    rows = list(lines)
    text = "\n".join(" ".join(escaped(word.text) for word in row) for row in rows)
    weighted = [
        (word.confidence, len(word.text))
        for row in rows
        for word in row
        if word.confidence is not None
    ]
    attribute = ""
    if weighted:
        total = sum(length for _, length in weighted)
        mean = sum(confidence * length for confidence, length in weighted) / total
        attribute = f' conf="{decimal(mean, 4)}"'
    return f"<TextEquiv{attribute}><Unicode>{text}</Unicode></TextEquiv>"


def _clip(box: Box, size: tuple[int, int]) -> Box:
    """Clips a box to the page. The result is at least one pixel wide and high."""
    width, height = size
    left, top = max(0, min(box[0], width - 1)), max(0, min(box[1], height - 1))
    right, bottom = max(left + 1, min(box[2], width)), max(top + 1, min(box[3], height))
    return left, top, right, bottom


def _coords(box: Box, size: tuple[int, int]) -> str:
    left, top, right, bottom = _clip(box, size)
    return f'<Coords points="{left},{top} {right},{top} {right},{bottom} {left},{bottom}"/>'


def _baseline(line: Line, box: Box) -> Iterator[str]:
    # hOCR describes a line by slope and offset, PAGE by points with integer coordinates.
    if line.baseline is None:
        return
    slope, offset = line.baseline
    left, top, right, bottom = box
    start = line.box[3] + offset
    first, last = (start + slope * (x - line.box[0]) for x in (left, right))
    low, high = (max(top, min(round(y), bottom)) for y in (first, last))
    yield f'<Baseline points="{left},{low} {right},{high}"/>'


def _path(path: str) -> str:
    return html.escape(legal(path))


def _namespace(element: etree._Element) -> str:
    return etree.QName(element).namespace or ""


def _named(element: etree._Element, name: str) -> Iterator[etree._Element]:
    return (each for each in element.iter() if etree.QName(each).localname == name)
