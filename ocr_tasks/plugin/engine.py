"""The OCR engine: OCRmyPDF's Tesseract engine with the Tesseract library in this process.

OCRmyPDF's own engine is used if `tesserocr` is missing, and for options that the library does not
support (configuration files, user words, user patterns).

If Tesseract times out, stock OCRmyPDF only logs it and leaves the page without words. In a job, the
page fails. The image that Tesseract receives also becomes the preview of the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from pathlib import Path

from ocrmypdf._exec import tesseract as program
from ocrmypdf._options import OcrOptions
from ocrmypdf.builtin_plugins.tesseract_ocr import TesseractOcrEngine
from ocrmypdf.pluginspec import OrientationConfidence
from PIL import Image

from ocr_tasks import errors
from ocr_tasks.plugin import context, previews, tesseract

#: Page segmentation modes that analyze the layout without recognizing text.
_NO_TEXT = (0, 2)


class PageEngine(TesseractOcrEngine):
    """Runs Tesseract on the page of the current thread; implements `ocrmypdf.OcrEngine`."""

    @staticmethod
    def version() -> str:
        return version()

    @staticmethod
    def languages(options: OcrOptions) -> Set[str]:
        return languages()

    @staticmethod
    def get_orientation(input_file: Path, options: OcrOptions) -> OrientationConfidence:
        if not _in_process(options):
            stock: Callable[..., OrientationConfidence] = TesseractOcrEngine.get_orientation
            return stock(input_file, options)
        limit = options.tesseract.non_ocr_timeout
        try:
            with Image.open(input_file) as image:
                result = tesseract.orientation(image, options.tesseract.oem, seconds=limit)
        except (tesseract.TimeLimit, tesseract.Refused):
            return OrientationConfidence(0, 0.0)
        return OrientationConfidence(*result)

    @staticmethod
    def get_deskew(input_file: Path, options: OcrOptions) -> float:
        if not _in_process(options):
            return float(TesseractOcrEngine.get_deskew(input_file, options))
        limit = options.tesseract.non_ocr_timeout
        try:
            with Image.open(input_file) as image:
                return math.degrees(tesseract.skew(image, _model(options), seconds=limit))
        except (tesseract.TimeLimit, tesseract.Refused):
            return 0.0

    @staticmethod
    def generate_hocr(
        input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
    ) -> None:
        """Runs OCR on the image and writes the hOCR and the text.

        Raises:
            errors.PageTimeout: in a job, if Tesseract exceeds its time limit.
            errors.PageUnreadable: in a job, if Tesseract rejects the image.
        """
        if _in_process(options):
            error = _run_library(input_file, output_hocr, output_text, options)
        else:
            error = _run_program(input_file, output_hocr, output_text, options)
        if error is None:
            return
        if context.current():
            raise error
        # Without a job, behave like OCRmyPDF: log the timeout, and leave the page without words.
        program.page_timedout(options.tesseract.timeout)
        program._generate_null_hocr(output_hocr, output_text, input_file)


def version() -> str:
    """Returns the version of Tesseract, e.g. `5.3.0`."""
    return tesseract.version() if tesseract.available() else str(program.version())


def languages() -> Set[str]:
    """Returns the installed languages."""
    if tesseract.available():
        return tesseract.languages()
    installed: Set[str] = program.get_languages()
    return installed


def _in_process(options: OcrOptions) -> bool:
    chosen = options.tesseract
    unsupported = chosen.config or chosen.user_words or chosen.user_patterns
    return tesseract.available() and not unsupported and chosen.pagesegmode not in _NO_TEXT


def _model(options: OcrOptions) -> tesseract.Model:
    return tesseract.Model(tuple(options.languages), options.tesseract.oem)


def _run_library(
    input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
) -> errors.PageError | None:
    chosen = options.tesseract
    if not chosen.timeout:
        return errors.PageTimeout()  # in OCRmyPDF, a timeout of 0 means no OCR
    with Image.open(input_file) as image:
        image.load()
        try:
            result = tesseract.read(
                image,
                _model(options),
                pagesegmode=chosen.pagesegmode,
                thresholding=chosen.thresholding,
                seconds=chosen.timeout,
            )
        except tesseract.TimeLimit:
            return _timed_out(chosen.timeout)
        except tesseract.Refused:
            return _refused()
        output_hocr.write_text(result.hocr, encoding="utf-8")
        output_text.write_text(result.text, encoding="utf-8")
        keep_preview(image)
    return None


def _run_program(
    input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
) -> errors.PageError | None:
    started = time.monotonic()
    stock: Callable[..., None] = TesseractOcrEngine.generate_hocr
    stock(input_file, output_hocr, output_text, options)
    # OCRmyPDF writes an empty file if Tesseract failed; the hOCR of a blank page is not empty.
    if output_hocr.stat().st_size == 0:
        limit = options.tesseract.timeout
        return _timed_out(limit) if time.monotonic() - started >= limit else _refused()
    with Image.open(input_file) as image:
        keep_preview(image)
    return None


def _timed_out(limit: float) -> errors.PageTimeout:
    return errors.PageTimeout(f"Tesseract took more than {limit:g} s")


def _refused() -> errors.PageUnreadable:
    return errors.PageUnreadable("Tesseract cannot process an image of this size or type")


def keep_preview(image: Image.Image) -> None:
    """Stores a preview of the page that this thread works on, if it belongs to a job."""
    job, page = context.current(), context.page()
    if job and page and job.preview_pixels:
        previews.from_picture(image, job.pages.preview(page), job.preview_pixels)
