"""Finds scans with so little text that it is not the text of the page.

OCRmyPDF skips pages with text. A scan whose only text is a letter, the header of a fax or the name
of an app would never be processed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdfium2
from ocrmypdf.pdfinfo.info import PageInfo

from ocr_tasks.plugin import textlayer

#: A page is a scan if images cover at least this share of it.
_SCAN_SHARE = 0.6

#: A scan with fewer letters and digits than this is processed. If none of the text is visible, it
#: is the result of an earlier OCR, and a few letters are enough.
_MOST_VISIBLE = 100
_MOST_INVISIBLE = 3


def scan_page(task: Callable[..., PageInfo], *arguments: Any) -> PageInfo:
    """Runs OCRmyPDF's task that scans a page; such a scan then counts as a page without text."""
    info = task(*arguments)
    if info.has_text and _is_scan(info) and _has_little_text(info):
        info._has_text = False
    return info


def _is_scan(info: PageInfo) -> bool:
    page = float(info.width_inches) * float(info.height_inches)
    try:
        covered = sum(image.printed_area for image in info.images)
    except ArithmeticError:  # an image without size
        return False
    return page > 0 and covered / page >= _SCAN_SHARE


def _has_little_text(info: PageInfo) -> bool:
    most = _MOST_VISIBLE if info.has_visible_text else _MOST_INVISIBLE
    try:
        with textlayer.document(Path(info._infile)) as pdf:
            text = textlayer.start_of_text(pdf, info.pageno + 1, 10 * most)
    except pypdfium2.PdfiumError:
        return False
    return sum(map(str.isalnum, text)) < most
