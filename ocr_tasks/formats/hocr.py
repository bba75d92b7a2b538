"""hOCR (http://kba.cloud/hocr-spec/1.2/): parses Tesseract's output, and writes documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite

from lxml import etree

from ocr_tasks.formats.language import bcp47
from ocr_tasks.formats.page import Block, Box, Direction, Line, Page, Paragraph, Word
from ocr_tasks.formats.untrusted_xml import check_nesting, tree
from ocr_tasks.formats.writing import Ids, decimal, escaped, plain

# The classes that Tesseract uses for different kinds of lines (its src/api/hocrrenderer.cpp).
_LINES = frozenset({"ocr_line", "ocr_header", "ocr_textfloat", "ocr_caption"})
_KINDS = _LINES | {"ocr_carea", "ocr_par", "ocrx_word"}
_CAPABILITIES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf ocrp_lang ocrp_dir"

_Properties = dict[str, list[str]]


def parse(hocr: bytes | str, number: int, dpi: float | None) -> Page:
    """Parses Tesseract's hOCR of one page. `number` is the page's number in its document.

    If `dpi` is None, Tesseract's `scan_res` is used, which is an estimate if the image has no
    resolution. Empty words, lines, paragraphs and blocks are omitted. Boxes are clipped to the
    page.

    Raises ValueError if the hOCR is not well-formed, uses entities, or does not have exactly one
    page.
    """
    page = _only_page(tree(hocr, "hOCR"))
    check_nesting(page, lambda element: _KINDS & set(element.get("class", "").split()))
    properties = _properties(page)
    _, _, width, height = _corners(properties)
    if width < 1 or height < 1:
        raise ValueError(f"the hOCR has a page of {width} by {height} pixels")
    blocks = tuple(_blocks(page, width, height))
    result = Page(
        number=number,
        width=width,
        height=height,
        dpi=_scan_res(properties) if dpi is None else dpi,
        blocks=blocks,
        source="ocr",
    )
    expected = sum(1 for word in _of_class(page, {"ocrx_word"}) if _text(word))
    if sum(1 for _ in result.words) != expected:
        raise ValueError("the hOCR has words outside of a line, a paragraph or an area")
    return result


def document(pages: Iterable[Page], title: str, system: str) -> Iterator[str]:
    """Yields an hOCR document page by page, to be encoded as UTF-8.

    `system` is the software and its version. Ids contain the position of the page in `pages`.
    """
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!DOCTYPE html>\n"
        '<html xmlns="http://www.w3.org/1999/xhtml">\n'
        "<head>\n"
        f"<title>{escaped(title)}</title>\n"
        '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="{escaped(system)}"/>\n'
        f'<meta name="ocr-capabilities" content="{_CAPABILITIES}"/>\n'
        "</head>\n"
        "<body>\n"
    )
    for position, each in enumerate(pages, start=1):
        yield "\n".join(_page_markup(each, position)) + "\n"
    yield "</body>\n</html>\n"


def page(page: Page, title: str, system: str) -> str:
    """Returns an hOCR document of one page."""
    return "".join(document([page], title, system))


def _of_class(element: etree._Element, classes: Iterable[str]) -> Iterator[etree._Element]:
    names = frozenset(classes)
    return (each for each in element.iter() if names & set(each.get("class", "").split()))


def _only_page(root: etree._Element) -> etree._Element:
    pages = list(_of_class(root, {"ocr_page"}))
    if len(pages) != 1:
        raise ValueError(f"the hOCR has {len(pages)} pages instead of one")
    return pages[0]


def _blocks(page: etree._Element, width: int, height: int) -> Iterator[Block]:
    for area in _of_class(page, {"ocr_carea"}):
        paragraphs = tuple(_paragraphs(area, width, height))
        if paragraphs:
            yield Block(_box(_properties(area), width, height), paragraphs)


def _paragraphs(area: etree._Element, width: int, height: int) -> Iterator[Paragraph]:
    for element in _of_class(area, {"ocr_par"}):
        lines = tuple(_lines(element, width, height))
        if lines:
            box = _box(_properties(element), width, height)
            yield Paragraph(box, element.get("lang"), _direction(element), lines)


def _lines(paragraph: etree._Element, width: int, height: int) -> Iterator[Line]:
    for element in _of_class(paragraph, _LINES):
        words = tuple(_words(element, width, height))
        if words:
            properties = _properties(element)
            box, angle = _box(properties, width, height), _angle(properties)
            yield Line(box, _baseline(properties), words, angle)


def _words(line: etree._Element, width: int, height: int) -> Iterator[Word]:
    for element in _of_class(line, {"ocrx_word"}):
        text = _text(element)
        if text:
            properties = _properties(element)
            yield Word(text, _box(properties, width, height), _confidence(properties))


def _text(element: etree._Element) -> str:
    text = plain("".join(str(part) for part in element.itertext()))
    return text if text.strip() else ""


def _direction(element: etree._Element) -> Direction | None:
    match element.get("dir"):
        case "ltr":
            return "ltr"
        case "rtl":
            return "rtl"
        case _:
            return None


def _properties(element: etree._Element) -> _Properties:
    # If a property occurs twice, the last one counts: Tesseract writes `image "…"` first, and its
    # file name may look like another property.
    rows = (part.split() for part in element.get("title", "").split(";"))
    return {name: values for name, *values in filter(None, rows)}


def _numbers(properties: _Properties, name: str, count: int) -> list[float] | None:
    values = properties.get(name)
    if values is None:
        return None
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise ValueError(f"the hOCR has an invalid {name}: {' '.join(values)[:80]}")
    return numbers


def _corners(properties: _Properties) -> Box:
    corners = _numbers(properties, "bbox", 4)
    if corners is None:
        raise ValueError("the hOCR has an element without a bbox")
    left, top, right, bottom = (round(corner) for corner in corners)
    return left, top, right, bottom


def _box(properties: _Properties, width: int, height: int) -> Box:
    # For an element without an extent, Tesseract can write a reversed box of the largest and
    # smallest integers. It becomes an empty box, and the word is kept.
    left, top, right, bottom = _corners(properties)
    left, top = max(0, min(left, width)), max(0, min(top, height))
    return left, top, max(left, min(right, width)), max(top, min(bottom, height))


def _baseline(properties: _Properties) -> tuple[float, float] | None:
    numbers = _numbers(properties, "baseline", 2)
    return None if numbers is None else (numbers[0], numbers[1])


def _angle(properties: _Properties) -> int:
    numbers = _numbers(properties, "textangle", 1)
    return 0 if numbers is None else round(numbers[0]) % 360


def _confidence(properties: _Properties) -> float | None:
    percent = _numbers(properties, "x_wconf", 1)
    return None if percent is None else max(0.0, min(percent[0] / 100, 1.0))


def _scan_res(properties: _Properties) -> float:
    numbers = _numbers(properties, "scan_res", 2)
    if numbers is None:
        raise ValueError("the hOCR does not contain its resolution")
    return numbers[1]


def _page_markup(page: Page, position: int) -> Iterator[str]:
    dpi = round(page.dpi)  # the specification requires integers
    yield (
        f'<div class="ocr_page" id="page_{position}" title="bbox 0 0 {page.width} {page.height}; '
        f'ppageno {page.number - 1}; scan_res {dpi} {dpi}">'
    )
    ids = Ids(position)
    for block in page.blocks:
        yield f'<div class="ocr_carea" id="{ids.next("block")}" title="{_bbox(block.box)}">'
        for paragraph in block.paragraphs:
            yield from _paragraph_markup(paragraph, ids)
        yield "</div>"
    yield "</div>"


def _paragraph_markup(paragraph: Paragraph, ids: Ids) -> Iterator[str]:
    attributes = ""
    if paragraph.language:
        language = escaped(bcp47(paragraph.language) or paragraph.language)
        attributes += f' lang="{language}" xml:lang="{language}"'
    if paragraph.direction:
        attributes += f' dir="{paragraph.direction}"'
    yield f'<p class="ocr_par" id="{ids.next("par")}"{attributes} title="{_bbox(paragraph.box)}">'
    for line in paragraph.lines:
        yield f'<span class="ocr_line" id="{ids.next("line")}" title="{_line_title(line)}">'
        for word in line.words:
            yield (
                f'<span class="ocrx_word" id="{ids.next("word")}" title="{_word_title(word)}">'
                f"{escaped(word.text)}</span>"
            )
        yield "</span>"
    yield "</p>"


def _bbox(box: Box) -> str:
    return "bbox {} {} {} {}".format(*box)


def _line_title(line: Line) -> str:
    title = _bbox(line.box)
    if line.baseline is not None:
        slope, offset = line.baseline
        title += f"; baseline {decimal(slope, 6)} {decimal(offset, 3)}"
    return title + (f"; textangle {line.angle}" if line.angle else "")


def _word_title(word: Word) -> str:
    if word.confidence is None:
        return _bbox(word.box)
    return f"{_bbox(word.box)}; x_wconf {decimal(word.confidence * 100, 2)}"
