"""Reads pages of a workspace with our own engine: what `ocrd-ocr-tasks-recognize` does.

Each page of the input group becomes a PAGE document in the output group. The image that is read is
the page's own; where the input is a PAGE document, it is the last image in there whose pixels lie
where those of the page's own image lie (binarised, but not cropped or deskewed).

Where that document has lines, these are read, each by itself, and the output is the same document
with new words and text in them. Otherwise, and with the parameter `overwrite_segments`, the page is
read as a whole, and the output has the regions and lines that Tesseract finds; regions of the input
that are lost so are warned of.
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
from ocr_tasks.formats import page_xml
from ocr_tasks.formats.page_lines import Lines
from ocr_tasks.ocrd import bridge, engine
from ocr_tasks.ocrd.mets.mets import File, Mets, is_group_name
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.storage import atomic
from ocr_tasks.uploads import images

log = logging.getLogger("ocr_tasks.recognize")

#: The form of OCR-D's logs: https://ocr-d.de/en/spec/cli#logging
LOG_FORMAT, LOG_TIME = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s - %(message)s", "%H:%M:%S"

STEP = "recognition/text-recognition"

#: What OCR-D does with pages that have output already.
Existing = Literal["SKIP", "OVERWRITE", "ABORT"]

#: One page in so many may be left out because it cannot be read; OCR-D's own processors have this.
_ONE_IN = 10
#: Below this an image states what its program did not know, and Tesseract estimates better.
_LEAST_DPI = 100


@dataclass(frozen=True, slots=True)
class Order:
    """One run. `mets` lies in `folder`, to which all paths in it are relative.

    `page_id` is in OCR-D's syntax, '' for all pages; `parameters` are checked and complete.
    """

    folder: Path
    mets: Path
    input_file_grp: str
    output_file_grp: str
    page_id: str
    parameters: dict[str, Any]
    existing: Existing


def tool() -> dict[str, Any]:
    """The description of the processor, as in ocrd-tool.json."""
    return {
        "executable": RECOGNIZE,
        "description": "Read with Tesseract, as OCR Tasks reads PDFs: the lines of the input, or "
        "whole pages with regions, lines and words where it has none.",
        "categories": ["Text recognition and optimization", "Layout analysis"],
        "steps": [STEP, "layout/segmentation/region", "layout/segmentation/line"],
        "input_file_grp_cardinality": 1,
        "output_file_grp_cardinality": 1,
        "parameters": {
            "languages": {
                "type": "string",
                "default": settings.get().default_languages,
                "description": "Tesseract's names of the languages of the text, the main one "
                "first, joined by +, such as deu+eng.",
            },
            "page_segmentation": {
                "type": "number",
                "enum": [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
                "default": 3,
                "description": "Tesseract's page segmentation mode: 3 finds columns and blocks, 6 "
                "takes the page for one block of text, 11 looks for sparse text.",
            },
            "dpi": {
                "type": "number",
                "minimum": 0,
                "maximum": 2400,
                "default": 0,
                "description": "Dots per inch of the images. 0: as they say, or as Tesseract "
                "estimates where they say nothing.",
            },
            "overwrite_segments": {
                "type": "boolean",
                "default": False,
                "description": "Read whole pages although the input has lines, and put what is "
                "found in their place.",
            },
        },
    }


def run(order: Order, should_yield: Callable[[], bool] = lambda: False) -> bool:
    """Reads the pages, writes their files, and then METS, once.

    `should_yield` says, after each page, whether to leave the others for later. Then, and only
    then, this returns False.
    """
    mets = Mets.read(order.mets)
    reading = _Reading(order, mets, engine.check_languages(order.parameters["languages"]))
    failed, finished, pages = 0, True, _wanted(order, mets)
    for number, page in enumerate(pages, 1):
        try:
            reading.read(page)
        except (errors.OcrTasksError, ValueError) as error:
            log.error("page %s could not be read: %s", page, error)  # noqa: TRY400  # one line
            failed += 1
            continue  # else the same page could be all that any turn gets to
        if number < len(pages) and should_yield():
            log.info("other jobs have their turn before the %d pages left", len(pages) - number)
            finished = False
            break
    if failed * _ONE_IN > len(pages):
        raise errors.ProcessorFailed(f"OCR failed on {failed} of {len(pages)} pages")
    notes = {
        "input-file-grp": order.input_file_grp,
        "output-file-grp": order.output_file_grp,
        "parameter": json.dumps(order.parameters),
        "page-id": order.page_id,
    }
    mets.add_agent(f"{RECOGNIZE} v{version('ocr-tasks')}", STEP, notes)
    mets.write(order.mets)
    return finished


def _wanted(order: Order, mets: Mets) -> list[str]:
    """The pages that are to be read."""
    pages = mets.resolve(order.page_id)
    if order.input_file_grp not in mets.groups:
        raise errors.FileGroupUnknown(f"METS has no file group {order.input_file_grp}")
    if not is_group_name(order.output_file_grp):
        raise errors.ProcessingInvalid(
            f"{order.output_file_grp!r:.200} is not a valid name of a file group"
        )
    done = mets.pages_of(order.output_file_grp)
    if order.existing == "ABORT" and done.intersection(pages):
        raise errors.ProcessingInvalid(
            f"{order.output_file_grp} already has output for these pages; --overwrite replaces it"
        )
    return [page for page in pages if order.existing == "OVERWRITE" or page not in done]


class _Reading:
    """Reading one page after the other of an order."""

    def __init__(self, order: Order, mets: Mets, languages: tuple[str, ...]) -> None:
        self._order = order
        self._mets = mets
        self._languages = languages
        self._ids = bridge.OutputIds(mets)

    def read(self, page_id: str) -> None:
        """Reads a page, writes what was read and puts it into METS, which stays in memory."""
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
            document = self._read_lines(file, image, file_id)
        else:
            if source.regions:
                log.warning("page %s is read without regard to %d regions", page_id, source.regions)
            document = self._read_whole(source, image, file_id)
        href = f"{group}/{file_id}.xml"
        target = bridge.below(order.folder, href)
        target.parent.mkdir(exist_ok=True)
        atomic.write(target, document)
        self._mets.add_file(group, file_id, page_id, page_xml.MEDIA_TYPE, href)
        log.info("page %s is read", page_id)

    def _read_whole(self, source: page_xml.Source, image: Image.Image, file_id: str) -> bytes:
        mode, seconds = self._order.parameters["page_segmentation"], settings.get().page_seconds
        found = engine.read(image, self._languages, int(mode), seconds)
        software = f"OCR Tasks {version('ocr-tasks')}"
        now = datetime.now(UTC)
        return "".join(
            page_xml.document(found, source, file_id, software, self._made, now)
        ).encode()

    def _read_lines(self, file: File, image: Image.Image, file_id: str) -> bytes:
        lines = Lines(bridge.existing(self._order.folder, file.href).read_bytes())
        seconds = settings.get().page_seconds
        found = engine.read_lines(image, lines.polygons, self._languages, seconds)
        lines.put(found, image.size)
        return lines.write(file_id, self._made, datetime.now(UTC))

    @property
    def _made(self) -> page_xml.Made:
        return page_xml.Made(RECOGNIZE, STEP, version("ocr-tasks"), self._order.parameters)

    def _image(self, source: page_xml.Source) -> Image.Image:
        """The image that is to be read: with the same places as the page's own."""
        folder = self._order.folder
        own = images.geometry(bridge.existing(folder, source.image))[:2]
        others = [other.image for other in reversed(source.alternatives) if other.in_place]
        paths = [bridge.existing(folder, href) for href in (*others, source.image)]
        path = next(path for path in paths if images.geometry(path)[:2] == own)
        image = images.load(path, check_pixels)
        dpi = self._order.parameters["dpi"]
        stated = image.info.pop("dpi", (0, 0))
        if dpi or min(stated) >= _LEAST_DPI:
            image.info["dpi"] = (dpi, dpi) if dpi else stated
        return image


def check_pixels(width: int, height: int) -> None:
    """Makes sure that an image is within the limit, before anything decodes it."""
    most = settings.get().max_image_megapixels
    if width * height > most * 1_000_000:
        raise errors.ImageTooLarge(
            f"An image has {width} × {height} pixels; the limit is {most:g} million"
        )
