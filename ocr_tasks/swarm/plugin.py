"""An OCR engine for OCRmyPDF that has devices of the swarm read, loaded beside `ocr_tasks.plugin`.

Everything but the reading itself (drawing pages, straightening, the text layer, PDF/A) stays as it
is. A page that no device takes in time, or that devices cannot read, is read by the worker; so a
job ends also where nobody has joined.
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
from ocr_tasks.swarm import devices, readers, transcripts
from ocr_tasks.swarm.model import SwarmPage

log = logging.getLogger(__name__)


@hookimpl
def get_ocr_engine(options: OcrOptions | None) -> OcrEngine | None:
    job = context.owner()
    return SwarmEngine() if job and job.devices else None


class SwarmEngine(PageEngine):
    """Devices for the page that the thread works on, else Tesseract. See `ocrmypdf.OcrEngine`."""

    @staticmethod
    def generate_hocr(
        input_file: Path, output_hocr: Path, output_text: Path, options: OcrOptions
    ) -> None:
        """Has the image read."""
        job, number = context.owner(), context.page()
        if job is None or job.devices is None or number is None:
            raise AssertionError("this engine is for pages of jobs with devices")
        slots = job.devices.slots
        has_slot = not job.devices.first and slots.acquire(blocking=False)

        def may_read_here() -> bool:
            nonlocal has_slot
            has_slot = has_slot or slots.acquire(blocking=False)
            return has_slot

        def read_here() -> None:
            nonlocal has_slot
            if not has_slot:
                slots.acquire()
                has_slot = True
            PageEngine.generate_hocr(input_file, output_hocr, output_text, options)

        try:
            page = None if has_slot else _hand_out(job, number, input_file, options)
            found = page and readers.ask(page, may_read_here, job.reading_over.is_set)
            if not found:
                read_here()
                return
            words = text.page_text(hocr.parse(found.hocr, number, None))
            if transcripts.wants_check():
                read_here()
                if not _agrees(found.device, words, output_text.read_text()):
                    return
            output_hocr.write_text(found.hocr)
            output_text.write_text(words)
        finally:
            if has_slot:
                slots.release()


def _hand_out(job: OwnerContext, number: int, input_file: Path, options: OcrOptions) -> SwarmPage:
    """Puts the image of a page where devices get it: without what the document says of itself."""
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
        devices.note_check(device, agreed)
    except RedisError as error:
        log.warning("a check of %s is not noted: %s", device, error)
    return agreed
