"""The JSON format: every word of a document with its box and its confidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from ocr_tasks.formats.page import Box, Line, Page, Word
from ocr_tasks.formats.text import page_text
from ocr_tasks.formats.writing import plain

_POINTS_PER_INCH = 72


def document(pages: Iterable[Page], meta: Mapping[str, object]) -> Iterator[str]:
    """Yields a JSON document page by page, to be encoded as UTF-8.

    The fields of `meta` are added to `version` and `pages`; ValueError if it contains one of
    these. Boxes are [left, top, right, bottom] from the top left corner: `box` in pixels, `box_pt`
    in points (1/72 inch). Confidences are from 0 to 1, or null.
    """
    if not meta.keys().isdisjoint({"version", "pages"}):
        raise ValueError("the fields version and pages are reserved")
    # The closing brace follows after the last page.
    yield _json({"version": 1, **meta})[:-1] + ',"pages":['
    separator = "\n"
    for page in pages:
        yield separator + _json(_page(page))
        separator = ",\n"
    yield "\n]}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _page(page: Page) -> dict[str, object]:
    return {
        "page": page.number,
        "width": page.width,
        "height": page.height,
        "dpi": page.dpi,
        "source": page.source,
        "rotation": page.rotation,
        "confidence": _rounded(page.confidence),
        "text": page_text(page),
        "lines": [_line(line, page.dpi) for line in page.lines],
    }


def _line(line: Line, dpi: float) -> dict[str, object]:
    return {"box": list(line.box), "words": [_word(word, dpi) for word in line.words]}


def _word(word: Word, dpi: float) -> dict[str, object]:
    return {
        "text": plain(word.text),
        "box": list(word.box),
        "box_pt": _points(word.box, dpi),
        "confidence": _rounded(word.confidence),
    }


def _points(box: Box, dpi: float) -> list[float]:
    return [round(pixels * _POINTS_PER_INCH / dpi, 2) for pixels in box]


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)
