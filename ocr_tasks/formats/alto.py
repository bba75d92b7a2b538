"""ALTO, a library format for text with positions: writes version 4.4, parses any version.

Schema: https://github.com/altoxml/schema/blob/master/v4/alto-4-4.xsd.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from math import isfinite

from lxml import etree

from ocr_tasks.formats.language import bcp47
from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word
from ocr_tasks.formats.untrusted_xml import check_nesting, tree
from ocr_tasks.formats.writing import Ids, decimal, escaped, plain

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"

#: The elements that `parse` uses. It ignores all others.
_KINDS = frozenset({"Page", "TextBlock", "TextLine", "String"})


def parse(alto: bytes | str, number: int, dpi: float) -> Page:
    """Parses an ALTO document of one page. `number` is the page's number in its document.

    Empty words, lines and blocks are omitted; boxes are clipped to the page.

    Raises ValueError if the ALTO is not well-formed, uses entities, does not have exactly one page,
    or does not measure in pixels.
    """
    root = tree(alto, "ALTO")
    check_nesting(root, lambda element: _KINDS & {_name(element)})
    unit = next((each.text for each in _named(root, "MeasurementUnit")), None)
    if (unit or "pixel").strip() != "pixel":
        raise ValueError(f"the ALTO measures in {unit!r:.20} instead of pixels")
    pages = list(_named(root, "Page"))
    if len(pages) != 1:
        raise ValueError(f"the ALTO has {len(pages)} pages instead of one")
    width, height = (round(_number(pages[0], side)) for side in ("WIDTH", "HEIGHT"))
    if width < 1 or height < 1:
        raise ValueError(f"the ALTO has a page of {width} by {height} pixels")
    blocks = []
    for element in _named(pages[0], "TextBlock"):
        box = _box(element, width, height)
        lines = tuple(_lines(element, width, height))
        if lines:
            blocks.append(Block(box, (Paragraph(box, element.get("LANG"), None, lines),)))
    return Page(number, width, height, dpi, tuple(blocks), "ocr")


def _lines(block: etree._Element, width: int, height: int) -> Iterator[Line]:
    for element in _named(block, "TextLine"):
        words = tuple(_words(element, width, height))
        if words:
            yield Line(_box(element, width, height), None, words)


def _words(line: etree._Element, width: int, height: int) -> Iterator[Word]:
    for element in _named(line, "String"):
        text = plain(element.get("CONTENT", ""))
        if text.strip():
            confidence = None
            if element.get("WC") is not None:
                confidence = max(0.0, min(_number(element, "WC"), 1.0))
            yield Word(text, _box(element, width, height), confidence)


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname


def _named(element: etree._Element, name: str) -> Iterator[etree._Element]:
    return (each for each in element.iter() if _name(each) == name)


def _number(element: etree._Element, attribute: str) -> float:
    value = float(element.get(attribute, "nan"))
    if not isfinite(value):
        raise ValueError(f"the ALTO has an element without a valid {attribute}")
    return value


def _box(element: etree._Element, width: int, height: int) -> Box:
    left, top, wide, high = (_number(element, side) for side in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    x1, y1 = max(0, min(round(left), width)), max(0, min(round(top), height))
    x2, y2 = max(x1, min(round(left + wide), width)), max(y1, min(round(top + high), height))
    return x1, y1, x2, y2


def document(
    pages: Iterable[Page], file_name: str, software: str, version: str, when: datetime
) -> Iterator[str]:
    """Yields an ALTO document page by page, to be encoded as UTF-8.

    `file_name` is the name of the source document. `software`, `version` and `when` (with a time
    zone) describe the OCR. All measurements are in pixels of the page image. Ids contain the
    position of the page in `pages`.
    """
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<alto xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_NAMESPACE} {_SCHEMA}" SCHEMAVERSION="4.4">\n'
        "<Description>\n"
        "<MeasurementUnit>pixel</MeasurementUnit>\n"
        "<sourceImageInformation>"
        f"<fileName>{escaped(file_name)}</fileName>"
        "</sourceImageInformation>\n"
        '<Processing ID="processing_1">\n'
        "<processingCategory>contentGeneration</processingCategory>\n"
        f"<processingDateTime>{when.isoformat(timespec='seconds')}</processingDateTime>\n"
        "<processingSoftware>"
        f"<softwareName>{escaped(software)}</softwareName>"
        f"<softwareVersion>{escaped(version)}</softwareVersion>"
        "</processingSoftware>\n"
        "</Processing>\n"
        "</Description>\n"
        "<Layout>\n"
    )
    for position, page in enumerate(pages, start=1):
        yield "\n".join(_page_markup(page, position)) + "\n"
    yield "</Layout>\n</alto>\n"


def _page_markup(page: Page, position: int) -> Iterator[str]:
    size = f'WIDTH="{page.width}" HEIGHT="{page.height}"'
    confidence = _optional("PC", page.confidence)
    yield f'<Page ID="page_{position}" PHYSICAL_IMG_NR="{page.number}" {size}{confidence}>'
    yield f'<PrintSpace HPOS="0" VPOS="0" {size}>'
    ids = Ids(position)
    for paragraph in page.paragraphs:
        yield from _text_block(paragraph, ids)
    yield "</PrintSpace>"
    yield "</Page>"


def _text_block(paragraph: Paragraph, ids: Ids) -> Iterator[str]:
    # LANG must be a BCP 47 tag, which some of Tesseract's names (e.g. `ita_old`) are not.
    tag = bcp47(paragraph.language) if paragraph.language else None
    language = f' LANG="{tag}"' if tag else ""
    direction = f' BASEDIRECTION="{paragraph.direction}"' if paragraph.direction else ""
    yield f'<TextBlock ID="{ids.next("block")}" {_position(paragraph.box)}{language}{direction}>'
    for line in paragraph.lines:
        # The schema requires at least one String in a TextLine.
        if line.words:
            yield from _text_line(line, ids)
    yield "</TextBlock>"


def _text_line(line: Line, ids: Ids) -> Iterator[str]:
    yield f'<TextLine ID="{ids.next("line")}" {_position(line.box)}{_baseline(line)}>'
    yield _string(line.words[0], ids)
    for before, word in pairwise(line.words):
        yield f"<SP {_position(_gap(before.box, word.box))}/>"
        yield _string(word, ids)
    yield "</TextLine>"


def _string(word: Word, ids: Ids) -> str:
    return (
        f'<String ID="{ids.next("word")}" CONTENT="{escaped(word.text)}" '
        f"{_position(word.box)}{_optional('WC', word.confidence)}/>"
    )


def _position(box: Box) -> str:
    left, top, right, bottom = box
    return f'HPOS="{left}" VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"'


def _gap(one: Box, other: Box) -> Box:
    # Either word can be the left one, depending on the reading direction.
    left = min(one[2], other[2])
    top, bottom = min(one[1], other[1]), max(one[3], other[3])
    return left, top, max(left, one[0], other[0]), bottom


def _baseline(line: Line) -> str:
    # hOCR describes a line by slope and offset, ALTO by points on the page.
    if line.baseline is None:
        return ""
    left, _, right, bottom = line.box
    slope, offset = line.baseline
    start = bottom + offset
    end = start + slope * (right - left)
    return f' BASELINE="{left},{decimal(start, 2)} {right},{decimal(end, 2)}"'


def _optional(name: str, confidence: float | None) -> str:
    return "" if confidence is None else f' {name}="{decimal(confidence, 4)}"'
