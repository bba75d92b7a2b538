"""Draws the text layer of each page as soon as the page is read.

OCRmyPDF keeps what was read of all pages in memory and draws all text layers when the last page is
there. Here that goes on beside the reading, so it takes neither memory nor time at the end. The
drawing itself is OCRmyPDF's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import TextMode
from ocrmypdf import _graft
from ocrmypdf._graft import Fpdf2PageInfo, OcrGrafter
from ocrmypdf._pipeline import VECTOR_PAGE_DPI
from ocrmypdf._pipelines import ocr
from ocrmypdf.font import MultiFontManager
from ocrmypdf.fpdf_renderer.renderer import Fpdf2PdfRenderer
from ocrmypdf.hocrtransform.hocr_parser import HocrParser
from pikepdf import Pdf

_NAME = "OcrGrafter"


def install() -> None:
    """Puts the grafter of this module where OCRmyPDF makes its own; there is no hook for it."""
    assert hasattr(ocr, _NAME)  # noqa: S101  # a new OCRmyPDF may have moved it
    setattr(ocr, _NAME, PageGrafter)


class PageGrafter(OcrGrafter):
    """OCRmyPDF's grafter, drawing while pages come in."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._drawn = _new_document()
        self._waiting: list[Fpdf2PageInfo] = []
        self._fonts = MultiFontManager(Path(_graft.__file__).parent / "data")
        self._registered: dict[str, str] = {}

    def graft_page(self, **page: Any) -> None:
        """See `OcrGrafter.graft_page`."""
        super().graft_page(**page)
        for read in self.fpdf2_hocr_pages:
            if read.hocr_path.stat().st_size and self._draw(read):
                self._waiting.append(read)
        self.fpdf2_hocr_pages.clear()

    def finalize(self) -> Path:
        """See `OcrGrafter.finalize`."""
        if self._waiting:
            self._graft_drawn()
        output: Path = super().finalize()  # type: ignore[no-untyped-call]
        return output

    def _draw(self, read: Fpdf2PageInfo) -> bool:
        """Draws the words of a page, if it has a size."""
        page = HocrParser(read.hocr_path).parse()
        if page.bbox is None:
            return False
        renderer = Fpdf2PdfRenderer(
            page=page,
            dpi=page.dpi or read.dpi or float(VECTOR_PAGE_DPI),
            multi_font_manager=self._fonts,
            invisible_text=True,
        )
        renderer._registered_fonts = self._registered
        renderer.render_to_pdf(self._drawn)
        return True

    def _graft_drawn(self) -> None:
        """Puts each page that was drawn under the page it belongs to."""
        path = self.context.get_path("text.pdf")
        self._drawn.output(str(path))
        with Pdf.open(path, conversion_mode="explicit") as drawn:
            for index, read in enumerate(self._waiting):
                turn = _graft._compute_text_misalignment(
                    self.pdfinfo[read.pageno].rotation,
                    read.autorotate_correction,
                    read.emplaced_page,
                )
                self._graft_fpdf2_text_layer(read.pageno, drawn.pages[index], turn)
        path.unlink()


def _new_document() -> FPDF:
    """An empty document, set up as OCRmyPDF's `Fpdf2MultiPageRenderer` does."""
    document = FPDF(unit="pt")
    document.set_auto_page_break(auto=False)
    document.set_text_shaping(True)
    document.c_margin = 0
    document.text_mode = TextMode.INVISIBLE
    return document
