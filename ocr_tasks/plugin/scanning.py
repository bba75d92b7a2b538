"""What OCRmyPDF learns about each page before OCR.

The content of a page can keep OCRmyPDF busy for hours; such a page is kept as it is. And OCRmyPDF
skips pages with text, also scans whose only text is a letter, the header of a fax or the name of an
app; such a scan counts as a page without text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pypdfium2
from ocrmypdf.pdfinfo.info import PageInfo

from ocr_tasks import settings
from ocr_tasks.plugin import crop_box, drawing_limit, textlayer, time_limit

log = logging.getLogger("ocrmypdf.pages")

#: An attribute of `PageInfo`, which processes send to each other.
_TOO_SLOW = "is_too_slow"

#: A page is a scan if images cover at least this share of it.
_SCAN_SHARE = 0.6

#: A scan with fewer letters and digits than this is processed. If none of the text is visible, it
#: is the result of an earlier OCR, and a few letters are enough.
_MOST_VISIBLE = 100
_MOST_INVISIBLE = 3


def scan_page(
    task: Callable[..., PageInfo],
    process_scans: bool,
    index: int,
    pdf: Any,
    path: Any,
    check_pages: Container[int],
    *more: Any,
) -> PageInfo:
    """Runs OCRmyPDF's task that scans a page (`ocrmypdf.pdfinfo._worker._pdf_pageinfo_sync`).

    With `process_scans`, scans with very little text count as pages without text. `index` is
    0-based.
    """
    limit = settings.get().page_seconds
    try:
        with time_limit.limited(limit):
            info = task(index, pdf, path, check_pages, *more)
    except time_limit.TimeLimitReached:
        log.warning("page %d is kept as it is: scanning it took more than %g s", index + 1, limit)
        info = task(index, pdf, path, (), *more)  # without its content
        info._has_text = True
        setattr(info, _TOO_SLOW, True)
        return info
    crop_box.apply(info)
    if process_scans and info.has_text and _is_scan(info) and _has_little_text(info):
        info._has_text = False
    return info


def is_too_slow(info: PageInfo) -> bool:
    """Returns whether a page took too long to scan, also if another process has scanned it."""
    return hasattr(info, _TOO_SLOW)


def _is_scan(info: PageInfo) -> bool:
    page = float(info.width_inches) * float(info.height_inches)
    try:
        covered = sum(image.printed_area for image in info.images)
    except ArithmeticError:  # an image without size
        return False
    return page > 0 and covered / page >= _SCAN_SHARE


def _has_little_text(info: PageInfo) -> bool:
    most = _MOST_VISIBLE if info.has_visible_text else _MOST_INVISIBLE
    number = info.pageno + 1
    if drawing_limit.was_reached(number):
        return False
    try:
        with textlayer.document(Path(info._infile)) as pdf, drawing_limit.limited(number):
            text = textlayer.start_of_text(pdf, number, 10 * most)
    except pypdfium2.PdfiumError:
        return False
    return sum(map(str.isalnum, text)) < most
