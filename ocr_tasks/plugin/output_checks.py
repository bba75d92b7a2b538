"""Checks the finished PDF in less time than OCRmyPDF, with the same result.

OCRmyPDF decodes all streams one after the other. It validates a PDF/A twice, before and after it
optimizes images; for scans, whose only fonts are those of the text layer, once is enough.
"""

from __future__ import annotations

import logging
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ocrmypdf import _pipeline, _stream_check, helpers
from ocrmypdf._jobcontext import PdfContext
from ocrmypdf.pdfa import output_type_to_flavour
from pikepdf import Pdf, PdfError, Stream, pdfa
from PIL import Image

from ocr_tasks import settings

log = logging.getLogger("ocrmypdf.pages")

_STREAMS, _CONVERSION = "check_streams", "try_speculative_pdfa"
_stock_conversion = getattr(_pipeline, _CONVERSION)

#: OCRmyPDF's checks of the content of a stream, by its filters. They release Python's lock.
_CHECKS: dict[tuple[str, ...], Callable[[bytes], Any]] = {
    ("/FlateDecode",): lambda content: _stream_check._inflate(content, keep=False),
    ("/DCTDecode",): _stream_check._check_jpeg,
    ("/FlateDecode", "/DCTDecode"): lambda content: _stream_check._check_jpeg(
        _stream_check._inflate(content, keep=True)
    ),
    ("/JPXDecode",): _stream_check._check_jpx,
}
_DAMAGED = (OSError, ValueError, zlib.error, PdfError)


def install() -> None:
    """Replaces functions of OCRmyPDF, because there is no hook for them."""
    assert hasattr(helpers, _STREAMS)  # noqa: S101  # another version may not have it
    setattr(helpers, _STREAMS, check_streams)
    setattr(_pipeline, _CONVERSION, convert_to_pdfa)


def check_streams(pdf: Pdf, progress: Callable[[int], None] | None = None) -> list[str]:
    """Returns a description of each stream that cannot be decoded.

    See `ocrmypdf._stream_check.check_streams`. The streams are decoded in threads, of which this
    one reads the contents, because qpdf is not thread-safe.
    """
    objects = list(pdf.objects)
    problems = []
    percent = -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for number, problem in enumerate(_problems(objects), 1):
            if problem:
                problems.append(problem)
            if progress and number * 100 // len(objects) != percent:
                percent = number * 100 // len(objects)
                progress(percent)
    return problems


def _problems(objects: list[Any]) -> Iterator[str]:
    """Yields for each object why it cannot be decoded, '' if it can."""
    threads = settings.cores()
    waiting: deque[tuple[Any, Future[None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for found in objects:
            waiting.append((found, _start_check(found, pool)))
            if len(waiting) > 2 * threads:  # a limit, because their contents are in memory
                yield _problem(*waiting.popleft())
        while waiting:
            yield _problem(*waiting.popleft())


def _start_check(found: Any, pool: ThreadPoolExecutor) -> Future[None]:
    done: Future[None] = Future()
    if not isinstance(found, Stream):
        done.set_result(None)
        return done
    check = _CHECKS.get(tuple(_stream_check._filters(found)))
    try:
        if check:
            return pool.submit(check, found.read_raw_bytes())
        with suppress(TypeError):  # a fax stream that is no image
            _stream_check._check_stream(found)
        done.set_result(None)
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        done.set_exception(error)
    return done


def _problem(found: Any, checked: Future[None]) -> str:
    try:
        checked.result()
    except Image.DecompressionBombError as error:
        log.debug("an image of the result is not checked: %s", error)
    except _DAMAGED as error:
        number, generation = found.objgen
        filters = ", ".join(_stream_check._filters(found))
        return f"ERROR: stream {number} {generation} R ({filters}) could not be decoded: {error}"
    return ""


def convert_to_pdfa(input_pdf: Path, context: PdfContext) -> Path | None:
    """Makes a PDF/A of a PDF without Ghostscript.

    Returns None if that is not possible, see `ocrmypdf._pipeline.try_speculative_pdfa`. The result
    for a scan is not valid yet if the scan violates PDF/A. OCRmyPDF validates it again at the end,
    and then uses Ghostscript as well.
    """
    options = context.options
    is_scan = not any(page and page.has_text for page in context.pdfinfo.pages)
    if is_scan and options.pdfa_backend != "ghostscript":
        output: Path = context.get_path("speculative_pdfa.pdf")
        try:
            _prepare_pdfa(input_pdf, output, options.output_type)
        except Exception as error:
            log.debug("the conversion to PDF/A failed: %s", error)
        else:
            return output
    converted: Path | None = _stock_conversion(input_pdf, context)
    return converted


def _prepare_pdfa(source: Path, target: Path, output_type: str) -> None:
    flavour = output_type_to_flavour(output_type)
    with Pdf.open(source, conversion_mode="explicit") as pdf:
        pdfa.prepare(pdf, flavour, output_intent="sRGB")
        pdf.save(target, **pdfa.resolve_save_kwargs(flavour))
