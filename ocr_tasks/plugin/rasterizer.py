"""Page images without compression.

OCRmyPDF hands page images on as PNGs. Deflating one takes longer than Tesseract takes to read it,
and most are only looked at once. So they are TIFFs here, under the names that OCRmyPDF gives them
(every reader of them goes by content); only an image that becomes a page of the PDF is compressed.
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
    """Draws a page as OCRmyPDF's PDFium plugin does, pixel for pixel.

    None: this is left to OCRmyPDF. Parameters: `ocrmypdf.pluginspec.rasterize_pdf_page`.
    """
    if options is not None and options.rasterizer == "ghostscript":
        return None
    if not raster_device.startswith("png"):
        return None  # a JPEG is lossy, and its pixels are what is wanted
    if settings.get().grey and options is not None and options.lossless_reconstruction:
        raster_device = GhostscriptRasterDevice.PNGGRAY  # only Tesseract sees it
    with (
        pypdfium._pdfium_lock,
        closing(pypdfium._open_pdf_document(input_file)) as pdf,
        closing(pdf[pageno - 1]) as page,
    ):
        bitmap, width, height = pypdfium._render_page_to_bitmap(
            page, raster_device, raster_dpi, rotation, use_cropbox
        )
        with closing(bitmap):
            drawn = pypdfium._bitmap_to_pil(bitmap, width, height)
    image, _ = pypdfium._process_image_for_output(
        drawn, raster_device, raster_dpi, page_dpi, stop_on_soft_error, width, height
    )
    image.save(output_file, "TIFF", dpi=image.info["dpi"])
    return output_file


def compressed(page: PageContext, image_file: Path) -> Path:
    """The image as OCRmyPDF would have made it, to become the visible page."""
    with image_file.open("rb") as start:
        if start.read(2) not in (b"II", b"MM"):
            return image_file
    output: Path = page.get_path("visible.png")
    with Image.open(image_file) as image:
        image.save(output, "PNG", dpi=image.info["dpi"])
    return output
