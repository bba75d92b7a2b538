"""Rasterizes pages to uncompressed images.

OCRmyPDF passes page images between its steps as PNG files. Compressing one takes longer than
running OCR on it, and most images are used only once. This module writes TIFF files under the names
that OCRmyPDF chose for the PNG files; all programs that open them detect the format by content.
Only images that become a page of the PDF are compressed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pypdfium2
from ocrmypdf._jobcontext import PageContext
from ocrmypdf._options import OcrOptions
from ocrmypdf.builtin_plugins import pypdfium
from ocrmypdf.helpers import Resolution
from ocrmypdf.pluginspec import GhostscriptRasterDevice
from PIL import Image

from ocr_tasks import settings
from ocr_tasks.plugin import context, drawing_limit, textlayer

log = logging.getLogger("ocrmypdf.pages")

_POINTS_PER_INCH = 72


def rasterize(
    input_file: Path,
    output_file: Path,
    raster_device: str,
    raster_dpi: Resolution[float],
    pageno: int,
    page_dpi: Resolution[float] | None,
    rotation: int | None,
    stop_on_soft_error: bool,
    options: OcrOptions | None,
    use_cropbox: bool,
) -> Path | None:
    """Rasterizes a page with the same pixels as OCRmyPDF's PDFium plugin.

    In a job, the image shows the page's crop box (`plugin.crop_box`).
    If the image would have more pixels than OCR_MAX_IMAGE_MEGAPIXELS, its resolution is lower.
    Returns `output_file`, or None to leave the page to OCRmyPDF's own plugins. For the parameters
    see `ocrmypdf.pluginspec.rasterize_pdf_page`.
    """
    if options is not None and options.rasterizer == "ghostscript":
        return None
    use_cropbox = use_cropbox or context.current() is not None
    is_png = raster_device.startswith("png")
    if is_png and settings.get().grey and options is not None and options.lossless_reconstruction:
        raster_device = GhostscriptRasterDevice.PNGGRAY  # the image is used for OCR only
    with _page(input_file, pageno) as page:
        raster_dpi, page_dpi = _within_limit(page, pageno, raster_dpi, page_dpi)
        bitmap, width, height = pypdfium._render_page_to_bitmap(
            page, raster_device, raster_dpi, rotation, use_cropbox
        )
        with closing(bitmap):
            rendered = pypdfium._bitmap_to_pil(bitmap, width, height)
    image, format_ = pypdfium._process_image_for_output(
        rendered, raster_device, raster_dpi, page_dpi, stop_on_soft_error, width, height
    )
    image.save(output_file, "TIFF" if is_png else format_, dpi=image.info["dpi"])
    return output_file


@contextmanager
def _page(path: Path, number: int) -> Iterator[pypdfium2.PdfPage]:
    """Opens a page with PDFium, and holds PDFium's lock. `number` is 1-based.

    Unlike OCRmyPDF's, its image shows annotations and what was filled into forms.
    """
    with (
        pypdfium._pdfium_lock,
        closing(pypdfium._open_pdf_document(path)) as pdf,
        drawing_limit.limited(number),
        closing(textlayer.page(pdf, number)) as page,
    ):
        yield page


def _within_limit(
    page: pypdfium2.PdfPage,
    number: int,
    raster_dpi: Resolution[float],
    page_dpi: Resolution[float] | None,
) -> tuple[Resolution[float], Resolution[float] | None]:
    """Returns the resolutions of a page's image, lowered if it would have too many pixels."""
    width, height = page.get_size()
    scale = max(raster_dpi.x * raster_dpi.y, raster_dpi.to_scalar() ** 2) / _POINTS_PER_INCH**2
    pixels = max(1.0, width * height * scale)
    factor = math.sqrt(settings.get().max_image_megapixels * 1_000_000 / pixels)
    if factor >= 1:
        return raster_dpi, page_dpi
    lower = Resolution(raster_dpi.x * factor, raster_dpi.y * factor)
    log.warning("page %d: OCR used an image of %.0f DPI", number, lower.x)
    return lower, page_dpi and Resolution(page_dpi.x * factor, page_dpi.y * factor)


def compressed(page: PageContext, image_file: Path) -> Path:
    """Returns the path of the image as a PNG, as OCRmyPDF would have written it."""
    with image_file.open("rb") as start:
        if start.read(2) not in (b"II", b"MM"):
            return image_file
    output: Path = page.get_path("visible.png")
    with Image.open(image_file) as image:
        image.save(output, "PNG", dpi=image.info["dpi"])
    return output
