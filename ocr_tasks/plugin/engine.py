"""The OCR engine: OCRmyPDF's own Tesseract engine, with Tesseract in this process.

What cannot be asked for through the library (Tesseract's configuration files, user words), and
everything where `tesserocr` is missing, is left to OCRmyPDF's engine.

Stock OCRmyPDF leaves a page on which Tesseract ran out of time without words, and says so in the
log only. In a job that is an error of the page. The image that Tesseract saw becomes the preview.
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

#: Page segmentation modes that only look at the layout; nobody who wants text asks for them.
_NO_TEXT = (0, 2)


class PageEngine(TesseractOcrEngine):
    """Tesseract for the page that the thread works on. Interface: `ocrmypdf.OcrEngine`."""

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
                found = tesseract.orientation(image, options.tesseract.oem, seconds=limit)
        except (tesseract.TimeLimit, tesseract.Refused):
            return OrientationConfidence(0, 0.0)
        return OrientationConfidence(*found)

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
        """Reads the image.

        Raises:
            errors.PageTimeout: in a job, if Tesseract ran out of time.
            errors.PageUnreadable: in a job, if it refused the image.
        """
        if _in_process(options):
            error = _read(input_file, output_hocr, output_text, options)
        else:
            error = _read_by_program(input_file, output_hocr, output_text, options)
        if error is None:
            return
        if context.current():
            raise error
        # Without a job it is as OCRmyPDF has it: the page has no words, and the log says so.
        program.page_timedout(options.tesseract.timeout)
        program._generate_null_hocr(output_hocr, output_text, input_file)


def version() -> str:
    """The version of the Tesseract that reads."""
    return tesseract.version() if tesseract.available() else str(program.version())


def languages() -> Set[str]:
    """The languages that can be read."""
    if tesseract.available():
        return tesseract.languages()
    installed: Set[str] = program.get_languages()
    return installed


def _in_process(options: OcrOptions) -> bool:
    asked = options.tesseract
    special = asked.config or asked.user_words or asked.user_patterns
    return tesseract.available() and not special and asked.pagesegmode not in _NO_TEXT


def _model(options: OcrOptions) -> tesseract.Model:
    return tesseract.Model(tuple(options.languages), options.tesseract.oem)


def _read(
    input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
) -> errors.PageError | None:
    asked = options.tesseract
    if not asked.timeout:
        return errors.PageTimeout()  # OCRmyPDF's way to say: no OCR
    with Image.open(input_file) as image:
        image.load()
        try:
            result = tesseract.read(
                image,
                _model(options),
                pagesegmode=asked.pagesegmode,
                thresholding=asked.thresholding,
                seconds=asked.timeout,
            )
        except tesseract.TimeLimit:
            return _out_of_time(asked.timeout)
        except tesseract.Refused:
            return _refused()
        output_hocr.write_text(result.hocr, encoding="utf-8")
        output_text.write_text(result.text, encoding="utf-8")
        keep_preview(image)
    return None


def _read_by_program(
    input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
) -> errors.PageError | None:
    started = time.monotonic()
    stock: Callable[..., None] = TesseractOcrEngine.generate_hocr
    stock(input_file, output_hocr, output_text, options)
    # OCRmyPDF writes an empty file when Tesseract gave no answer; a blank page has one.
    if output_hocr.stat().st_size == 0:
        limit = options.tesseract.timeout
        return _out_of_time(limit) if time.monotonic() - started >= limit else _refused()
    with Image.open(input_file) as image:
        keep_preview(image)
    return None


def _out_of_time(limit: float) -> errors.PageTimeout:
    return errors.PageTimeout(f"Tesseract took more than {limit:g} seconds")


def _refused() -> errors.PageUnreadable:
    return errors.PageUnreadable("Tesseract cannot process an image of this size or type")


def keep_preview(image: Image.Image) -> None:
    """Keeps a small image of the page that this thread works on, if there is a job."""
    job, page = context.current(), context.page()
    if job and page and job.preview_pixels:
        previews.from_picture(image, job.pages.preview(page), job.preview_pixels)
