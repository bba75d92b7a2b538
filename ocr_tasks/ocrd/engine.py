"""Runs Tesseract on images, in this process or, without `tesserocr`, with its program."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageStat

from ocr_tasks import errors
from ocr_tasks.formats import hocr
from ocr_tasks.formats.page import Box, Page, Word
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.page_lines import Polygon
from ocr_tasks.options import INTERNAL_LANGUAGES
from ocr_tasks.plugin import engine, tesseract

#: Tesseract's page segmentation mode for one line, and the margin around a line in pixels.
_SINGLE_LINE, _MARGIN = 7, 10
#: Minimum width and height of a line in pixels; smaller ones contain no text.
_MIN_PIXELS = 4


def check_languages(languages: str) -> tuple[str, ...]:
    """Returns the languages in a `+`-separated list.

    Raises ocrd_errors.ParametersInvalid if one is not installed.
    """
    names = tuple(languages.split("+"))
    installed = engine.languages() - INTERNAL_LANGUAGES
    missing = [name for name in names if name not in installed]
    if missing:
        raise ocrd_errors.ParametersInvalid(
            f"Languages not installed: {', '.join(missing)}; "
            f"installed: {', '.join(sorted(installed))}"
        )
    return names


def recognize(
    image: Image.Image, languages: tuple[str, ...], pagesegmode: int, seconds: float
) -> Page:
    """Recognizes the text of an image; the result's coordinates are pixels.

    `dpi` in the image's `info` is used if it is set. Raises errors.PageTimeout after `seconds`, and
    errors.PageUnreadable.
    """
    found: str | bytes
    try:
        if tesseract.available():
            model = tesseract.Model(languages)
            found = tesseract.read(image, model, pagesegmode=pagesegmode, seconds=seconds).hocr
        else:
            found = _run_program(image, languages, pagesegmode, seconds)
    except (tesseract.TimeLimit, subprocess.TimeoutExpired):
        raise errors.PageTimeout(f"Tesseract took more than {seconds:g} s") from None
    except tesseract.Refused as refused:
        raise errors.PageUnreadable(str(refused) or "Tesseract cannot process this image") from None
    dpi = image.info.get("dpi")
    return hocr.parse(found, 1, float(dpi[1]) if dpi else None)


def recognize_lines(
    image: Image.Image,
    polygons: Iterable[Polygon],
    languages: tuple[str, ...],
    seconds: float,
) -> list[tuple[Word, ...]]:
    """Recognizes the words of each line of an image, whose polygons are given."""
    deadline = time.monotonic() + seconds
    found = []
    for polygon in polygons:
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.PageTimeout(f"Tesseract took more than {seconds:g} s")
        found.append(_recognize_line(image, polygon, languages, left))
    return found


def _recognize_line(
    image: Image.Image, polygon: Polygon, languages: tuple[str, ...], seconds: float
) -> tuple[Word, ...]:
    box = _box(polygon, image.size)
    if box is None:
        return ()
    left, top = box[:2]
    line = _crop_line(image, box, [(x - left, y - top) for x, y in polygon])
    try:
        page = recognize(line, languages, _SINGLE_LINE, seconds)
    except errors.PageUnreadable:  # too small
        return ()
    across, down = left - _MARGIN, top - _MARGIN
    return tuple(
        Word(word.text, _translate(word.box, across, down, box), word.confidence)
        for word in page.words
    )


def _box(polygon: Polygon, size: tuple[int, int]) -> Box | None:
    """Returns a polygon's box, clipped to the image size; None if it is too small for text."""
    across, down = zip(*polygon, strict=True)
    left, top = max(0, min(across)), max(0, min(down))
    right, bottom = min(size[0], max(across)), min(size[1], max(down))
    fits = min(right - left, bottom - top) >= _MIN_PIXELS
    return (left, top, right, bottom) if fits else None


def _crop_line(image: Image.Image, box: Box, polygon: Polygon) -> Image.Image:
    """Returns the image of one line; other lines in its box are painted over with paper color."""
    part = image.crop(box)
    if part.mode in ("1", "P"):
        part = part.convert("L" if part.mode == "1" else "RGB")
    mask = Image.new("1", part.size)
    ImageDraw.Draw(mask).polygon(polygon, fill=1, outline=1)
    median = ImageStat.Stat(part).median
    paper = tuple(median) if len(median) > 1 else median[0]
    size = part.width + 2 * _MARGIN, part.height + 2 * _MARGIN
    line = Image.new(part.mode, size, paper)
    line.paste(part, (_MARGIN, _MARGIN), mask)
    if "dpi" in image.info:
        line.info["dpi"] = image.info["dpi"]
    return line


def _translate(box: Box, across: int, down: int, bounds: Box) -> Box:
    """Moves a box and clips it to bounds."""
    left, right = (max(bounds[0], min(x + across, bounds[2])) for x in (box[0], box[2]))
    top, bottom = (max(bounds[1], min(y + down, bounds[3])) for y in (box[1], box[3]))
    return left, top, right, bottom


def _run_program(
    image: Image.Image, languages: tuple[str, ...], pagesegmode: int, seconds: float
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.png")
        dpi = image.info.get("dpi")
        image.save(path, compress_level=1, **({"dpi": dpi} if dpi else {}))
        command = ["tesseract", str(path), "stdout", "-l", "+".join(languages)]
        process = subprocess.run(
            [*command, "--psm", str(pagesegmode), "hocr"],
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    if process.returncode or not process.stdout:
        stderr = process.stderr.decode(errors="replace").strip().splitlines()
        raise tesseract.Refused(stderr[-1] if stderr else "")
    return process.stdout
