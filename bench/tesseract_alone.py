"""Tesseract alone, as Debian builds it: through `tesserocr`, on page images in warm processes."""

from __future__ import annotations

import ctypes
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pypdfium2
from ocrmypdf.helpers import Resolution
from PIL import Image

from ocr_tasks.plugin import rasterizer

_api: Any = None


def images(document: Path, folder: Path, dpi: int = 300) -> list[Path]:
    """Writes the pages of a document as uncompressed images, and returns their paths."""
    pdf = pypdfium2.PdfDocument(document)
    count = len(pdf)
    pdf.close()
    square = Resolution(float(dpi), float(dpi))
    paths = []
    for number in range(1, count + 1):
        target = folder / f"{number}.tif"
        rasterizer.rasterize(
            document, target, "png16m", square, number, square, 0, False, None, False
        )
        paths.append(target)
    return paths


class TesseractAlone:
    """A pool of processes with loaded models, as a context manager."""

    def __init__(self, language: str, processes: int) -> None:
        # Not forked, because this process has threads and connections.
        self._pool = ProcessPoolExecutor(
            processes, get_context("spawn"), initializer=_load, initargs=(language,)
        )

    def __enter__(self) -> TesseractAlone:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def process(self, pages: list[Path]) -> None:
        """Runs OCR on all pages."""
        list(self._pool.map(_recognize, pages))


def _load(language: str) -> None:
    global _api
    import os

    os.environ["OMP_THREAD_LIMIT"] = "1"
    import tesserocr

    from ocr_tasks.plugin import tesseract

    if tesseract._line_images:  # Debian's Tesseract compresses line images
        leptonica = ctypes.CDLL(tesserocr.tesserocr.__file__)
        tesseract._line_images.line_images_connect(leptonica.pixWriteMem, None, None)
    _api = tesserocr.PyTessBaseAPI(lang=language)


def _recognize(page: Path) -> int:
    with Image.open(page) as image:
        _api.SetImageBytes(
            image.convert("RGB").tobytes(), image.width, image.height, 3, image.width * 3
        )
        _api.SetSourceResolution(300)
    _api.Recognize()
    return len(_api.GetHOCRText(0)) + len(_api.GetUTF8Text())
