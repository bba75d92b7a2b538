"""Runs OCR on pages of a workspace: the built-in processor `ocrd-ocr-tasks-recognize`.

Each page of the input group becomes a PAGE document in the output group. The input is the page's
image. If the page has a PAGE document, the input is the last image in it that has the same size and
position as the page's own image, e.g. binarized, but not cropped or deskewed.

If that document contains lines, each line is OCRed separately, and the output is the same document
with new words and text. Otherwise, or with the parameter `overwrite_segments`, the whole page is
OCRed, and the output contains the regions and lines that Tesseract detects; a warning is logged if
regions of the input are lost.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import bridge, engine, page_xml
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import File, Mets, is_group_name
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.ocrd.page_lines import Lines
from ocr_tasks.storage import atomic
from ocr_tasks.uploads import images

log = logging.getLogger("ocr_tasks.recognize")

#: The format of OCR-D's logs: https://ocr-d.de/en/spec/cli#logging
LOG_FORMAT, LOG_TIME = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s - %(message)s", "%H:%M:%S"

STEP = "recognition/text-recognition"

#: What to do with pages that already have output.
Existing = Literal["SKIP", "OVERWRITE", "ABORT"]

#: At most one page in this many may fail, as in OCR-D's own processors.
_MIN_PAGES_PER_FAILURE = 10
#: A lower resolution in an image is usually wrong; Tesseract's estimate is better.
_MIN_DPI = 100


@dataclass(frozen=True, slots=True)
class Order:
    """A requested run. `mets` is in `folder`, to which all paths are relative.

    `page_id` has OCR-D's syntax, '' for all pages; `parameters` are validated and have all
    defaults.
    """

    folder: Path
    mets: Path
    input_file_grp: str
    output_file_grp: str
    page_id: str
    parameters: dict[str, Any]
    existing: Existing


def tool() -> dict[str, Any]:
    """Returns the description of the processor, in the format of ocrd-tool.json."""
    return {
        "executable": RECOGNIZE,
        "description": "Recognize text with Tesseract, as OCR Tasks does in PDFs: in the lines of "
        "the input, or, if it has none, in whole pages, with regions, lines and words.",
        "categories": ["Text recognition and optimization", "Layout analysis"],
        "steps": [STEP, "layout/segmentation/region", "layout/segmentation/line"],
        "input_file_grp_cardinality": 1,
        "output_file_grp_cardinality": 1,
        "parameters": {
            "languages": {
                "type": "string",
                "default": settings.get().default_languages,
                "description": "Tesseract's names of the languages of the text, the main one "
                "first, separated by +, e.g. deu+eng.",
            },
            "page_segmentation": {
                "type": "number",
                "enum": [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
                "default": 3,
                "description": "Tesseract's page segmentation mode: 3 detects columns and blocks, "
                "6 assumes one block of text, 11 finds sparse text.",
            },
            "dpi": {
                "type": "number",
                "minimum": 0,
                "maximum": 2400,
                "default": 0,
                "description": "Resolution of the images in DPI. 0: from the images' metadata, or "
                "estimated by Tesseract.",
            },
            "overwrite_segments": {
                "type": "boolean",
                "default": False,
                "description": "Process whole pages even if the input has lines, and replace its "
                "regions and lines.",
            },
        },
    }


def run(order: Order, should_yield: Callable[[], bool] = lambda: False) -> bool:
    """Processes the pages, writes their files, and then updates the METS file once.

    `should_yield` is called after each page. If it returns true and pages are left, this returns
    False. Raises ocrd_errors.ProcessorFailed if more than one page in ten fails.
    """
    mets = Mets.read(order.mets)
    recognizer = _Recognizer(order, mets, engine.check_languages(order.parameters["languages"]))
    failed, finished, pages = 0, True, _selected_pages(order, mets)
    for number, page in enumerate(pages, 1):
        try:
            recognizer.process(page)
        except (errors.OcrTasksError, ValueError) as error:
            log.error("page %s failed: %s", page, error)  # noqa: TRY400  # one line
            failed += 1
            continue  # without yielding, or each run might process only this page
        if number < len(pages) and should_yield():
            log.info("yielding to other jobs; %d pages left", len(pages) - number)
            finished = False
            break
    if failed * _MIN_PAGES_PER_FAILURE > len(pages):
        raise ocrd_errors.ProcessorFailed(f"OCR failed on {failed} of {len(pages)} pages")
    notes = {
        "input-file-grp": order.input_file_grp,
        "output-file-grp": order.output_file_grp,
        "parameter": json.dumps(order.parameters),
        "page-id": order.page_id,
    }
    mets.add_agent(f"{RECOGNIZE} v{version('ocr-tasks')}", STEP, notes)
    mets.write(order.mets)
    return finished


def _selected_pages(order: Order, mets: Mets) -> list[str]:
    """Returns the ids of the pages to process."""
    pages = mets.resolve(order.page_id)
    if order.input_file_grp not in mets.groups:
        raise ocrd_errors.FileGroupUnknown(f"METS has no file group {order.input_file_grp}")
    if not is_group_name(order.output_file_grp):
        raise ocrd_errors.ProcessingInvalid(
            f"{order.output_file_grp!r:.200} is not a valid name of a file group"
        )
    done = mets.pages_of(order.output_file_grp)
    if order.existing == "ABORT" and done.intersection(pages):
        raise ocrd_errors.ProcessingInvalid(
            f"{order.output_file_grp} already has output for these pages; --overwrite replaces it"
        )
    return [page for page in pages if order.existing == "OVERWRITE" or page not in done]


class _Recognizer:
    """Processes the pages of an order one after the other."""

    def __init__(self, order: Order, mets: Mets, languages: tuple[str, ...]) -> None:
        self._order = order
        self._mets = mets
        self._languages = languages
        self._ids = bridge.OutputIds(mets)

    def process(self, page_id: str) -> None:
        """OCRs a page, writes its PAGE document, and adds it to the METS file in memory."""
        order = self._order
        file = bridge.page_file(self._mets, order.input_file_grp, page_id)
        if file is None:
            log.warning("page %s has no file in %s", page_id, order.input_file_grp)
            return
        source = bridge.source(order.folder, file)
        image = self._image(source)
        group = order.output_file_grp
        file_id = self._ids.of(group, page_id, page_xml.MEDIA_TYPE)
        if source.lines and not order.parameters["overwrite_segments"]:
            document = self._process_lines(file, image, file_id)
        else:
            if source.regions:
                log.warning("page %s: %d regions of the input are ignored", page_id, source.regions)
            document = self._process_page(source, image, file_id)
        href = f"{group}/{file_id}.xml"
        target = bridge.below(order.folder, href)
        target.parent.mkdir(exist_ok=True)
        atomic.write(target, document)
        self._mets.add_file(group, file_id, page_id, page_xml.MEDIA_TYPE, href)
        log.info("page %s done", page_id)

    def _process_page(self, source: page_xml.Source, image: Image.Image, file_id: str) -> bytes:
        mode, seconds = self._order.parameters["page_segmentation"], settings.get().page_seconds
        found = engine.recognize(image, self._languages, int(mode), seconds)
        software = f"OCR Tasks {version('ocr-tasks')}"
        now = datetime.now(UTC)
        return "".join(
            page_xml.document(found, source, file_id, software, self._creator, now)
        ).encode()

    def _process_lines(self, file: File, image: Image.Image, file_id: str) -> bytes:
        lines = Lines(bridge.existing(self._order.folder, file.href).read_bytes())
        seconds = settings.get().page_seconds
        found = engine.recognize_lines(image, lines.polygons, self._languages, seconds)
        lines.put(found, image.size)
        return lines.write(file_id, self._creator, datetime.now(UTC))

    @property
    def _creator(self) -> page_xml.Made:
        return page_xml.Made(RECOGNIZE, STEP, version("ocr-tasks"), self._order.parameters)

    def _image(self, source: page_xml.Source) -> Image.Image:
        """Returns the image to OCR; its coordinates are those of the page's own image."""
        folder = self._order.folder
        own = images.geometry(bridge.existing(folder, source.image))[:2]
        others = [other.image for other in reversed(source.alternatives) if other.in_place]
        paths = [bridge.existing(folder, href) for href in (*others, source.image)]
        path = next(path for path in paths if images.geometry(path)[:2] == own)
        image = images.load(path, check_pixels)
        dpi = self._order.parameters["dpi"]
        stated = image.info.pop("dpi", (0, 0))
        if dpi or min(stated) >= _MIN_DPI:
            image.info["dpi"] = (dpi, dpi) if dpi else stated
        return image


def check_pixels(width: int, height: int) -> None:
    """Raises errors.ImageTooLarge if an image exceeds the limit, before it is decoded."""
    most = settings.get().max_image_megapixels
    if width * height > most * 1_000_000:
        raise errors.ImageTooLarge(
            f"An image has {width} × {height} pixels; the limit is {most:g} million"
        )
