"""An OCRmyPDF plugin whose OCR engine hands out pages to devices of the swarm.

It is loaded in addition to `ocr_tasks.plugin` and replaces only the OCR; rasterizing, deskewing,
the text layer and PDF/A stay the same. The worker processes a page itself if no device takes it in
time or devices fail, so a job also finishes without devices.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ocrmypdf import hookimpl
from ocrmypdf._options import OcrOptions
from ocrmypdf.pluginspec import OcrEngine
from PIL import Image
from redis import RedisError

from ocr_tasks.formats import hocr, text
from ocr_tasks.plugin import context
from ocr_tasks.plugin.context import OwnerContext
from ocr_tasks.plugin.engine import PageEngine, keep_preview
from ocr_tasks.swarm import devices, queue, readers, transcripts
from ocr_tasks.swarm.model import SwarmPage

log = logging.getLogger(__name__)


@hookimpl
def get_ocr_engine(options: OcrOptions | None) -> OcrEngine | None:
    job = context.owner()
    return SwarmEngine() if job and job.run_context.remote else None


class SwarmEngine(PageEngine):
    """Hands out the page of the current thread to devices; implements `ocrmypdf.OcrEngine`."""

    @staticmethod
    def generate_hocr(
        input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
    ) -> None:
        """Lets a device or Tesseract run OCR on the image, and writes the hOCR and the text."""
        job, number = context.owner(), context.page()
        remote = job.run_context.remote if job else None
        if job is None or remote is None or number is None:
            raise AssertionError("this engine requires a page of a job with devices")
        slots = job.slots
        has_slot = not remote.first and slots.acquire(blocking=False)

        def may_process_here() -> bool:
            nonlocal has_slot
            has_slot = has_slot or slots.acquire(blocking=False)
            return has_slot

        def process_here() -> None:
            nonlocal has_slot
            if not has_slot:
                slots.acquire()
                has_slot = True
            PageEngine.generate_hocr(input_file, output_hocr, output_text, options)

        try:
            page = None if has_slot else _write_image(job, number, input_file, options)
            result = page and readers.wait_for_device(
                page, may_process_here, job.ocr_finished.is_set
            )
            if not result:
                process_here()
                return
            words = text.page_text(hocr.parse(result.hocr, number, None))
            if transcripts.wants_check():
                process_here()
                if not _agrees(result.device, words, output_text.read_text()):
                    return
            output_hocr.write_text(result.hocr)
            output_text.write_text(words)
        finally:
            if has_slot:
                slots.release()


def _write_image(
    job: OwnerContext, number: int, input_file: Path, options: OcrOptions
) -> SwarmPage:
    """Writes the image of a page for devices, without the metadata of the document.

    Returns the page for the queue.
    """
    with Image.open(input_file) as image:
        image.load()
        dpi = float(image.info.get("dpi", (300, 300))[1])
        page = SwarmPage(
            media_type="image/png",
            width=image.width,
            height=image.height,
            dpi=dpi,
            languages=tuple(options.languages),
            format="hocr",
            job_id=job.folder.path.name,
            run=job.run,
            number=number,
        )
        plain = image if image.mode in ("1", "L", "RGB") else image.convert("RGB")
        plain.save(transcripts.image_file(page), "PNG", dpi=(dpi, dpi), compress_level=1)
        keep_preview(image)
    return page


def _agrees(device: str, theirs: str, ours: str) -> bool:
    agreed = devices.likeness(theirs, ours) >= devices.AGREEMENT
    try:
        queue.count_check(possible=True)
        devices.note_check(device, agreed)
    except RedisError as error:
        log.warning("the cross-check of %s could not be recorded: %s", device, error)
    return agreed
