"""Draws the text layer of each page when OCR of the page is finished.

OCRmyPDF holds the words of all pages in memory and draws all text layers after the last page.
Drawing them during OCR saves that memory, and the time at the end. The drawing itself is done by
OCRmyPDF's code.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import TextMode
from fpdf.fonts import TTFFont
from ocrmypdf import _graft
from ocrmypdf._graft import Fpdf2PageInfo, OcrGrafter
from ocrmypdf._pipeline import VECTOR_PAGE_DPI
from ocrmypdf._pipelines import ocr
from ocrmypdf.font import MultiFontManager
from ocrmypdf.fpdf_renderer.renderer import Fpdf2PdfRenderer
from ocrmypdf.hocrtransform.hocr_parser import HocrParser
from pikepdf import Array, Dictionary, Name, Page, Pdf

_NAME = "OcrGrafter"

#: Tables that only shaping needs, which is finished when a document is written.
_LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB")


def install() -> None:
    """Replaces OCRmyPDF's grafter with the one of this module, because there is no hook for it."""
    assert hasattr(ocr, _NAME)  # noqa: S101  # another version of OCRmyPDF may not have it
    setattr(ocr, _NAME, PageGrafter)


class PageGrafter(OcrGrafter):
    """OCRmyPDF's grafter, changed to draw each text layer when its page is finished."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._drawn = _new_document()
        self._waiting: list[Fpdf2PageInfo] = []
        self._fonts = MultiFontManager(Path(_graft.__file__).parent / "data")
        self._registered: dict[str, str] = {}

    def graft_page(self, **page: Any) -> None:
        """See `OcrGrafter.graft_page`."""
        if page["image"]:
            self._replace_page(**page)
        else:
            super().graft_page(**page)
        for info in self.fpdf2_hocr_pages:
            if info.hocr_path.stat().st_size and self._draw(info):
                self._waiting.append(info)
        self.fpdf2_hocr_pages.clear()

    def finalize(self) -> Path:
        """See `OcrGrafter.finalize`."""
        if self._waiting:
            self._graft_drawn()
        output: Path = super().finalize()  # type: ignore[no-untyped-call]
        return output

    def _replace_page(self, **page: Any) -> None:
        """Replaces a page with an image of its visible part, see `plugin.crop_box`."""
        number = page["pageno"]
        found = self.pdf_base.pages[number]
        found.MediaBox = Array([*self.pdfinfo[number].mediabox])  # links are moved according to it
        super().graft_page(**page)
        if Name.CropBox in self.pdf_base.Root.Pages or found.cropbox != found.mediabox:
            found.CropBox = found.mediabox  # otherwise it may be inherited

    def _draw(self, info: Fpdf2PageInfo) -> bool:
        """Draws the words of a page. Returns False if its hOCR has no page size."""
        page = HocrParser(info.hocr_path).parse()
        if page.bbox is None:
            return False
        renderer = Fpdf2PdfRenderer(
            page=page,
            dpi=page.dpi or info.dpi or float(VECTOR_PAGE_DPI),
            multi_font_manager=self._fonts,
            invisible_text=True,
        )
        renderer._registered_fonts = self._registered
        renderer.render_to_pdf(self._drawn)
        return True

    def _graft_drawn(self) -> None:
        """Adds each text layer to its page."""
        path = self.context.get_path("text.pdf")
        _drop_layout_tables(self._drawn)
        self._drawn.output(str(path))
        with Pdf.open(path, conversion_mode="explicit") as drawn:
            for index, info in enumerate(self._waiting):
                rotation = _graft._compute_text_misalignment(
                    self.pdfinfo[info.pageno].rotation,
                    info.autorotate_correction,
                    info.emplaced_page,
                )
                self._graft_on_visible_part(info, drawn.pages[index], rotation)
        path.unlink()

    def _graft_on_visible_part(self, info: Fpdf2PageInfo, text: Page, rotation: int) -> None:
        """Adds a text layer to the part of a page that OCR ran on, see `plugin.crop_box`."""
        page = self.pdf_base.pages[info.pageno]
        media_box = page.mediabox
        if not info.emplaced_page:
            page.MediaBox = Array([*self.pdfinfo[info.pageno].mediabox])
        before = set(_forms(page))
        self._graft_fpdf2_text_layer(info.pageno, text, rotation)
        for name in set(_forms(page)) - before:
            # OCRmyPDF writes the page's media box, which clips the text if its origin is not 0.
            page.Resources.XObject[name].BBox = Array([float(edge) for edge in text.mediabox])
        page.MediaBox = media_box


def _forms(page: Page) -> Iterable[str]:
    return page.obj.get("/Resources", Dictionary()).get("/XObject", Dictionary()).keys()


def _drop_layout_tables(document: FPDF) -> None:
    """Drops the font tables that fpdf2 does not embed.

    fontTools would decode them before it drops them, which takes 20 ms.
    """
    for font in document.fonts.values():
        for table in _LAYOUT_TABLES:
            if isinstance(font, TTFFont) and table in font.ttfont:
                del font.ttfont[table]


def _new_document() -> FPDF:
    """Returns an empty document with the settings of OCRmyPDF's `Fpdf2MultiPageRenderer`."""
    document = FPDF(unit="pt")
    document.set_auto_page_break(auto=False)
    document.set_text_shaping(True)
    document.c_margin = 0
    document.text_mode = TextMode.INVISIBLE
    return document
