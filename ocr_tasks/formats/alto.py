"""ALTO 4.4, the libraries' format for text with its place on the page.

https://github.com/altoxml/schema/blob/master/v4/alto-4-4.xsd says what may stand where.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise

from ocr_tasks.formats.language import bcp47
from ocr_tasks.formats.page import Box, Line, Page, Paragraph, Word
from ocr_tasks.formats.writing import Ids, decimal, escaped

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def document(
    pages: Iterable[Page], file_name: str, software: str, version: str, when: datetime
) -> Iterator[str]:
    """A whole ALTO document, a page at a time, to be encoded as UTF-8.

    `file_name` is what was read; `software`, `version` and `when` (with a time zone) say how.
    All measures are pixels of the page's raster. Ids count pages as they come.
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
    # LANG holds BCP 47 only: Tesseract's other names (`ita_old`) would not be valid there.
    tag = bcp47(paragraph.language) if paragraph.language else None
    language = f' LANG="{tag}"' if tag else ""
    direction = f' BASEDIRECTION="{paragraph.direction}"' if paragraph.direction else ""
    yield f'<TextBlock ID="{ids.next("block")}" {_place(paragraph.box)}{language}{direction}>'
    for line in paragraph.lines:
        # A TextLine has at least one String.
        if line.words:
            yield from _text_line(line, ids)
    yield "</TextBlock>"


def _text_line(line: Line, ids: Ids) -> Iterator[str]:
    yield f'<TextLine ID="{ids.next("line")}" {_place(line.box)}{_baseline(line)}>'
    yield _string(line.words[0], ids)
    for before, word in pairwise(line.words):
        yield f"<SP {_place(_gap(before.box, word.box))}/>"
        yield _string(word, ids)
    yield "</TextLine>"


def _string(word: Word, ids: Ids) -> str:
    return (
        f'<String ID="{ids.next("word")}" CONTENT="{escaped(word.text)}" '
        f"{_place(word.box)}{_optional('WC', word.confidence)}/>"
    )


def _place(box: Box) -> str:
    left, top, right, bottom = box
    return f'HPOS="{left}" VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"'


def _gap(one: Box, other: Box) -> Box:
    # Whichever of the two words stands left: reading goes both ways.
    left = min(one[2], other[2])
    top, bottom = min(one[1], other[1]), max(one[3], other[3])
    return left, top, max(left, one[0], other[0]), bottom


def _baseline(line: Line) -> str:
    # hOCR's is a line through the box, ALTO's is a list of points on the page.
    if line.baseline is None:
        return ""
    left, _, right, bottom = line.box
    slope, offset = line.baseline
    start = bottom + offset
    end = start + slope * (right - left)
    return f' BASELINE="{left},{decimal(start, 2)} {right},{decimal(end, 2)}"'


def _optional(name: str, confidence: float | None) -> str:
    return "" if confidence is None else f' {name}="{decimal(confidence, 4)}"'
