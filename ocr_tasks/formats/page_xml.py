"""PAGE-XML of 2019-07-15, in which OCR-D keeps what is known of a page: written, and read in part.

The schema is https://www.primaresearch.org/schema/PAGE/gts/pagecontent/2019-07-15/pagecontent.xsd;
https://ocr-d.de/en/spec/page says how OCR-D uses it. A document has one page, and its coordinates
are pixels of the image that it names.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from ocr_tasks.formats.page import Box, Line, Page, Paragraph, Word
from ocr_tasks.formats.reading import tree
from ocr_tasks.formats.writing import Ids, decimal, escaped, legal, plain

MEDIA_TYPE = "application/vnd.prima.page+xml"

_FAMILY = "http://schema.primaresearch.org/PAGE/gts/pagecontent/"
NAMESPACE = f"{_FAMILY}2019-07-15"
_DIRECTIONS = {"ltr": "left-to-right", "rtl": "right-to-left"}

#: What can have been done to an alternative image so that its pixels lie elsewhere.
_MOVED = ("cropped", "deskewed", "rotated", "dewarped", "clipped")


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another image of a page, and what was done to it (`binarized,despeckled`)."""

    image: str
    features: str

    @property
    def in_place(self) -> bool:
        """Whether its pixels lie where they lie in the page's own image."""
        return not any(feature.strip().startswith(_MOVED) for feature in self.features.split(","))


@dataclass(frozen=True, slots=True)
class Source:
    """What a document says of where its page comes from: paths are relative to the METS file.

    `regions` and `lines` are the numbers of regions and lines of text that it has.
    """

    image: str
    alternatives: tuple[Alternative, ...] = ()
    regions: int = 0
    lines: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """Who made a document: a processor, the step that it is in OCR-D's words, its parameters."""

    executable: str
    step: str
    version: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read(document: bytes | str) -> Source:
    """The images that a PAGE document of any version names.

    ValueError for all that is not one well-formed page, and for entities, whatever they stand for.
    """
    root = tree(document, "PAGE")
    if not _namespace(root).startswith(_FAMILY):
        raise ValueError("that is no PAGE document")
    pages = list(_named(root, "Page"))
    if len(pages) != 1:
        raise ValueError(f"the PAGE document has {len(pages)} pages where one is expected")
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
    """A whole PAGE document, a region at a time, to be encoded as UTF-8.

    The page's pixels are those of the image of `source`. `document_id` is an xsd:ID, `creator` the
    software and its version; `when` has a time zone. Paragraphs become regions. The language of a
    paragraph is left out: PAGE knows languages by English names from a list of its own.
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
    """A time as the schema wants it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def made_element(made: Made) -> str:
    """Who made a document, for its metadata."""
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
    """The paragraph without words and lines that have no text; None if nothing is left."""
    lines = tuple(
        Line(words, line.box, line.baseline)
        for line in paragraph.lines
        if (words := tuple(word for word in line.words if plain(word.text)))
    )
    return Paragraph(lines, paragraph.box, None, paragraph.direction) if lines else None


def _text_region(region: Paragraph, ids: Ids, size: tuple[int, int]) -> Iterator[str]:
    direction = _direction(region)
    box = _around([region.box, *(_line_box(line) for line in region.lines)])
    yield f'<TextRegion id="{ids.next("region")}" type="paragraph"{direction}>'
    yield _coords(box, size)
    for line in region.lines:
        yield f'<TextLine id="{ids.next("line")}"{direction}>'
        yield from _text_line(line, region.direction == "rtl", ids, size)
        yield "</TextLine>"
    yield text_element([line.words for line in region.lines])
    yield "</TextRegion>"


def _text_line(line: Line, to_left: bool, ids: Ids, size: tuple[int, int]) -> Iterator[str]:
    box = _within(_line_box(line), size)
    yield _coords(box, size)
    yield from _baseline(line, box)
    # OCR-D has the words from left to right, and turns them round where text runs to the left.
    for word in reversed(line.words) if to_left else line.words:
        yield word_element(word, ids.next("word"), size)
    yield text_element([line.words])


def _direction(region: Paragraph) -> str:
    # OCR-D does not look at the region for what a line does not say.
    if region.direction is None:
        return ""
    return f' readingDirection="{_DIRECTIONS[region.direction]}"'


def _line_box(line: Line) -> Box:
    return _around([line.box, *(word.box for word in line.words)])


def word_element(word: Word, word_id: str, size: tuple[int, int]) -> str:
    """A word of a page of this width and height."""
    text = text_element([[word]])
    return f'<Word id="{escaped(word_id)}">{_coords(word.box, size)}{text}</Word>'


def text_element(lines: Iterable[Sequence[Word]]) -> str:
    """The text of lines, and how sure it is: each word counts by its characters."""
    rows = list(lines)
    text = "\n".join(" ".join(escaped(word.text) for word in row) for row in rows)
    known = [
        (word.confidence, len(word.text))
        for row in rows
        for word in row
        if word.confidence is not None
    ]
    confidence = ""
    if known:
        mean = sum(sure * length for sure, length in known) / sum(length for _, length in known)
        confidence = f' conf="{decimal(mean, 4)}"'
    return f"<TextEquiv{confidence}><Unicode>{text}</Unicode></TextEquiv>"


def _around(boxes: Iterable[Box]) -> Box:
    """The box around all boxes: what is inside another thing must not stick out of it."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _within(box: Box, size: tuple[int, int]) -> Box:
    """The box cut to the page, and at least one pixel wide and high: a polygon has an area."""
    width, height = size
    left, top = max(0, min(box[0], width - 1)), max(0, min(box[1], height - 1))
    right, bottom = max(left + 1, min(box[2], width)), max(top + 1, min(box[3], height))
    return left, top, right, bottom


def _coords(box: Box, size: tuple[int, int]) -> str:
    left, top, right, bottom = _within(box, size)
    return f'<Coords points="{left},{top} {right},{top} {right},{bottom} {left},{bottom}"/>'


def _baseline(line: Line, box: Box) -> Iterator[str]:
    # hOCR's is a line through the box, PAGE's is a list of points with whole numbers.
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
