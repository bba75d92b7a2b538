"""Rasterizes pages to uncompressed images.

OCRmyPDF passes page images between its steps as PNG files. Compressing one takes longer than
running OCR on it, and most images are used only once. This module writes TIFF files under the names
that OCRmyPDF chose for the PNG files; all programs that open them detect the format by content.
Only images that become a page of the PDF are compressed.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ocrmypdf._jobcontext import PageContext
from ocrmypdf._options import OcrOptions
from ocrmypdf.builtin_plugins import pypdfium
from ocrmypdf.helpers import Resolution
from ocrmypdf.pluginspec import GhostscriptRasterDevice
from PIL import Image

from ocr_tasks import settings


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

    Returns `output_file`, or None to leave the page to OCRmyPDF's own plugins. For the parameters
    see `ocrmypdf.pluginspec.rasterize_pdf_page`.
    """
    if options is not None and options.rasterizer == "ghostscript":
        return None
    if not raster_device.startswith("png"):
        return None  # a JPEG must have the pixels of OCRmyPDF's lossy compression
    if settings.get().grey and options is not None and options.lossless_reconstruction:
        raster_device = GhostscriptRasterDevice.PNGGRAY  # the image is used for OCR only
    with (
        pypdfium._pdfium_lock,
        closing(pypdfium._open_pdf_document(input_file)) as pdf,
        closing(pdf[pageno - 1]) as page,
    ):
        bitmap, width, height = pypdfium._render_page_to_bitmap(
            page, raster_device, raster_dpi, rotation, use_cropbox
        )
        with closing(bitmap):
            rendered = pypdfium._bitmap_to_pil(bitmap, width, height)
    image, _ = pypdfium._process_image_for_output(
        rendered, raster_device, raster_dpi, page_dpi, stop_on_soft_error, width, height
    )
    image.save(output_file, "TIFF", dpi=image.info["dpi"])
    return output_file


def compressed(page: PageContext, image_file: Path) -> Path:
    """Returns the path of the image as a PNG, as OCRmyPDF would have written it."""
    with image_file.open("rb") as start:
        if start.read(2) not in (b"II", b"MM"):
            return image_file
    output: Path = page.get_path("visible.png")
    with Image.open(image_file) as image:
        image.save(output, "PNG", dpi=image.info["dpi"])
    return output
