"""What is tried when OCRmyPDF cannot process a document: each attempt changes more of it.

1. the document as it is
2. a repaired copy
3. the same as a plain PDF, without optimization
4. with the damaged pages as images, or with all of them if none is found to be damaged
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import img2pdf
import pikepdf
import pypdfium2
from ocrmypdf import exceptions

from ocr_tasks import errors
from ocr_tasks.formats.pdf_errors import OF_PYTHON
from ocr_tasks.plugin import drawing_limit, textlayer

log = logging.getLogger("ocrmypdf.job")

#: Errors of OCRmyPDF and its libraries that a document can cause.
_OF_LIBRARIES = (
    errors.OutputInvalid,
    exceptions.ExitCodeException,
    pikepdf.PikepdfError,
    pypdfium2.PdfiumError,
)

#: Errors of OCRmyPDF that the machine causes, or that the client has to decide.
_FINAL = (
    exceptions.PriorOcrFoundError,
    exceptions.TaggedPDFError,
    exceptions.MissingDependencyError,
    exceptions.TesseractConfigError,
    exceptions.OutputFileAccessError,
    exceptions.EncryptedPdfError,
    exceptions.DigitalSignatureError,
)

#: Resolution of pages that are drawn, in DPI.
_DPI = 300

#: Maximum number of pixels of the longer side of a page that is drawn.
_MOST_PIXELS = 10_000


@dataclass(frozen=True)
class Attempt:
    """One way to process a document.

    `prepare` writes a changed copy of the document. `plain` asks for neither PDF/A nor
    optimization. With `fresh`, results of pages from earlier attempts are not used. The job gets
    the warning.
    """

    prepare: Callable[[Path, Path], None] | None = None
    plain: bool = False
    fresh: bool = False
    warning: str = ""


def all_attempts() -> tuple[Attempt, ...]:
    """Returns the attempts in order."""
    return (
        Attempt(),
        Attempt(repair, warning="The document is damaged and was repaired."),
        Attempt(
            repair,
            plain=True,
            warning="The document is damaged. It was repaired, and is a plain PDF without "
            "optimization.",
        ),
        Attempt(
            redraw,
            plain=True,
            fresh=True,
            warning="The document is damaged. Pages that cannot be processed were converted to "
            "images.",
        ),
    )


def may_help(error: Exception) -> bool:
    """Returns whether another attempt may help after this error."""
    # Pillow raises OSErrors without a number for images that it cannot decode.
    of_an_image = isinstance(error, OSError) and error.errno is None
    known = isinstance(error, (*_OF_LIBRARIES, *OF_PYTHON))
    return of_an_image or (known and not isinstance(error, _FINAL))


def is_unexpected(error: Exception) -> bool:
    """Returns whether an error may be a fault of this service."""
    return isinstance(error, OF_PYTHON) and not isinstance(error, _OF_LIBRARIES)


def is_encrypted(source: Path) -> bool:
    """Returns whether a PDF is encrypted. It needs no password, or the upload was rejected."""
    try:
        with pikepdf.open(source) as pdf:
            return bool(pdf.is_encrypted)
    except pikepdf.PdfError:
        return False


def has_errors(source: Path) -> bool:
    """Returns whether qpdf finds errors in a PDF."""
    try:
        with pikepdf.open(source) as pdf:
            return bool(pdf.check_pdf_syntax())
    except pikepdf.PdfError:
        return True


def was_cut(source: Path) -> bool:
    """Returns whether a PDF lacks its list of objects. Objects at its end may be missing."""
    try:
        with pikepdf.open(source) as pdf:
            return any("reconstruct" in str(text) for text in pdf.get_warnings())
    except pikepdf.PdfError:
        return True


def repair(source: Path, target: Path) -> None:
    """Writes a new copy of a PDF with qpdf, or with PDFium if qpdf cannot open it."""
    try:
        with pikepdf.open(source) as pdf:
            # qpdf writes the trailer that it reconstructed, which must have a size to be valid.
            if "/Size" not in pdf.trailer:
                pdf.trailer["/Size"] = len(pdf.objects) + 1
            pdf.save(target)
    except pikepdf.PdfError:
        with textlayer.document(source) as opened:
            opened.save(target)


def redraw(source: Path, target: Path) -> None:
    """Writes a PDF whose damaged pages are images; all pages if none is damaged."""
    repaired = target.with_suffix(".repaired.pdf")
    repair(source, repaired)
    with pikepdf.open(repaired) as pdf:
        damaged = [n for n, page in enumerate(pdf.pages) if _is_damaged(page)]
        numbers = damaged or range(len(pdf.pages))
        for number, drawn in _drawn(repaired, numbers, target.parent):
            with pikepdf.open(drawn) as one:
                pdf.pages[number] = one.pages[0]
        pdf.save(target)


def _is_damaged(page: pikepdf.Page) -> bool:
    try:
        pikepdf.parse_content_stream(page)
        for image in page.get_images().values():
            pikepdf.PdfImage(cast("pikepdf.Stream", image)).as_pil_image().load()
    except Exception as error:  # any error means that programs disagree about the page
        log.info("a page is damaged: %s", type(error).__name__)
        return True
    return False


def _drawn(source: Path, numbers: Iterable[int], folder: Path) -> Iterable[tuple[int, Path]]:
    """Yields the index of each page and a PDF of its image; pages without an image are left out."""
    for number in numbers:
        if drawing_limit.was_reached(number + 1):
            continue
        with textlayer.document(source) as pdf, drawing_limit.limited(number + 1):
            try:
                page = textlayer.page(pdf, number + 1)
                width, height = page.get_size()
                scale = min(_DPI / 72, _MOST_PIXELS / max(width, height, 1))
                image = page.render(scale=scale).to_pil()
            except (pypdfium2.PdfiumError, ValueError) as error:
                log.warning("page %d cannot be drawn: %s", number + 1, error)
                continue
        picture, drawn = folder / f"page-{number}.png", folder / f"page-{number}.pdf"
        image.save(picture)
        layout = img2pdf.get_layout_fun((width, height))
        drawn.write_bytes(img2pdf.convert(str(picture), layout_fun=layout))
        picture.unlink()
        yield number, drawn
        drawn.unlink()
