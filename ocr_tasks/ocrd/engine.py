"""Reads an image with Tesseract, in this process or, without `tesserocr`, by its program."""

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
from ocr_tasks.formats.page_lines import Polygon
from ocr_tasks.options import INTERNAL_LANGUAGES
from ocr_tasks.plugin import engine, tesseract

#: Tesseract's page segmentation mode for an image of one line, and the pixels of paper around it.
_ONE_LINE, _MARGIN = 7, 10
#: Pixels below which no line has text, though Tesseract may find some.
_LEAST = 4


def check_languages(languages: str) -> tuple[str, ...]:
    """The languages that are named, joined by +, if they are installed."""
    names = tuple(languages.split("+"))
    installed = engine.languages() - INTERNAL_LANGUAGES
    missing = [name for name in names if name not in installed]
    if missing:
        raise errors.ParametersInvalid(
            f"Languages not installed: {', '.join(missing)}; "
            f"installed: {', '.join(sorted(installed))}"
        )
    return names


def read(image: Image.Image, languages: tuple[str, ...], pagesegmode: int, seconds: float) -> Page:
    """What is read in an image, in its pixels; `dpi` in its `info` is believed, if it is there."""
    found: str | bytes
    try:
        if tesseract.available():
            model = tesseract.Model(languages)
            found = tesseract.read(image, model, pagesegmode=pagesegmode, seconds=seconds).hocr
        else:
            found = _by_program(image, languages, pagesegmode, seconds)
    except (tesseract.TimeLimit, subprocess.TimeoutExpired):
        raise errors.PageTimeout(f"Tesseract took more than {seconds:g} seconds") from None
    except tesseract.Refused as refused:
        raise errors.PageUnreadable(str(refused) or "Tesseract cannot process this image") from None
    dpi = image.info.get("dpi")
    return hocr.parse(found, 1, float(dpi[1]) if dpi else None)


def read_lines(
    image: Image.Image,
    polygons: Iterable[Polygon],
    languages: tuple[str, ...],
    seconds: float,
) -> list[tuple[Word, ...]]:
    """What is read in each of the lines of an image, whose places are known."""
    deadline = time.monotonic() + seconds
    found = []
    for polygon in polygons:
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.PageTimeout(f"Tesseract took more than {seconds:g} seconds")
        found.append(_read_line(image, polygon, languages, left))
    return found


def _read_line(
    image: Image.Image, polygon: Polygon, languages: tuple[str, ...], seconds: float
) -> tuple[Word, ...]:
    box = _box(polygon, image.size)
    if box is None:
        return ()
    left, top = box[:2]
    line = _cut_out(image, box, [(x - left, y - top) for x, y in polygon])
    try:
        page = read(line, languages, _ONE_LINE, seconds)
    except errors.PageUnreadable:  # too small to be read
        return ()
    across, down = left - _MARGIN, top - _MARGIN
    return tuple(
        Word(word.text, _inside(word.box, across, down, box), word.confidence)
        for word in page.words
    )


def _box(polygon: Polygon, size: tuple[int, int]) -> Box | None:
    """The box around a polygon, cut to an image of this size; None if no text fits in there."""
    across, down = zip(*polygon, strict=True)
    left, top = max(0, min(across)), max(0, min(down))
    right, bottom = min(size[0], max(across)), min(size[1], max(down))
    fits = min(right - left, bottom - top) >= _LEAST
    return (left, top, right, bottom) if fits else None


def _cut_out(image: Image.Image, box: Box, polygon: Polygon) -> Image.Image:
    """The line alone, on paper of its own colour: its neighbours may reach into its box."""
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


def _inside(box: Box, across: int, down: int, bounds: Box) -> Box:
    """A box moved, and cut to bounds."""
    left, right = (max(bounds[0], min(x + across, bounds[2])) for x in (box[0], box[2]))
    top, bottom = (max(bounds[1], min(y + down, bounds[3])) for y in (box[1], box[3]))
    return left, top, right, bottom


def _by_program(
    image: Image.Image, languages: tuple[str, ...], pagesegmode: int, seconds: float
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.png")
        dpi = image.info.get("dpi")
        image.save(path, compress_level=1, **({"dpi": dpi} if dpi else {}))
        command = ["tesseract", str(path), "stdout", "-l", "+".join(languages)]
        done = subprocess.run(
            [*command, "--psm", str(pagesegmode), "hocr"],
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise tesseract.Refused(said[-1] if said else "")
    return done.stdout
