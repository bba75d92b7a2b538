"""The OCR engine: OCRmyPDF's own Tesseract, and what it does not tell.

Stock OCRmyPDF leaves a page on which Tesseract ran out of time without words, and says so in the
log only. Here that is an error of the page. The image that Tesseract saw becomes the preview.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ocrmypdf._options import OcrOptions
from ocrmypdf.builtin_plugins.tesseract_ocr import TesseractOcrEngine

from ocr_tasks import errors
from ocr_tasks.plugin import context, previews


class PageEngine(TesseractOcrEngine):
    """Tesseract for the page that the thread works on."""

    @staticmethod
    def generate_hocr(
        input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
    ) -> None:
        """Reads the image.

        Raises:
            errors.PageTimeout: if Tesseract ran out of time.
            errors.PageUnreadable: if it refused the image.
        """
        started = time.monotonic()
        stock: Callable[..., None] = TesseractOcrEngine.generate_hocr
        stock(input_file, output_hocr, output_text, options)
        # OCRmyPDF writes an empty file when Tesseract gave no answer; a blank page has one.
        if output_hocr.stat().st_size == 0:
            limit = options.tesseract.timeout
            if time.monotonic() - started >= limit:
                raise errors.PageTimeout(f"Tesseract took more than {limit:g} seconds")
            raise errors.PageUnreadable("Tesseract cannot read an image of this size or kind")
        _keep_preview(input_file)


def _keep_preview(image_file: Path) -> None:
    job, page = context.current(), context.page()
    if job and page:
        previews.from_image(image_file, job.pages.preview(page), job.preview_pixels)
