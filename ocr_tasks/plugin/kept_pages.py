"""Stores the words and the preview of a page on which no OCR was run, from its own text layer."""

from __future__ import annotations

import logging
from pathlib import Path

import pypdfium2

from ocr_tasks.formats.page import Page
from ocr_tasks.plugin import context, drawing_limit, previews, textlayer

log = logging.getLogger("ocrmypdf.pages")


def store(job: context.JobContext, source: Path | None, number: int, failed: bool = False) -> None:
    """Stores words and preview of a page, unless its words are stored already.

    The page has none if PDFium cannot read it, or must not because `source` is None. `number` is
    1-based. `failed` means that OCR of the page failed.
    """
    if job.pages.has_words(number):
        return
    words, picture = Page.empty(number, 0, 0, textlayer.DPI), None
    try:
        if source and not drawing_limit.was_reached(number):
            with textlayer.document(source) as pdf:
                with drawing_limit.limited(number):
                    words = textlayer.words(pdf, number)
                job.pages.save_words(words, failed)
                if job.preview_pixels:
                    with drawing_limit.limited(number):
                        picture = textlayer.picture(pdf, number, job.preview_pixels)
    except (pypdfium2.PdfiumError, ValueError) as error:
        log.warning("page %d: its text could not be extracted: %s", number, error)
    if picture:
        previews.from_picture(picture, job.pages.preview(number), job.preview_pixels)
    if not job.pages.has_words(number):
        job.pages.save_words(words, failed)
