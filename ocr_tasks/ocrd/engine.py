"""Reads an image with Tesseract, in this process or, without `tesserocr`, by its program."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from ocr_tasks import errors
from ocr_tasks.formats import hocr
from ocr_tasks.formats.page import Page
from ocr_tasks.options import INTERNAL_LANGUAGES
from ocr_tasks.plugin import engine, tesseract


def check_languages(languages: str) -> tuple[str, ...]:
    """The languages that are named, joined by +, if they are installed.

    Raises:
        errors.ParametersInvalid
    """
    names = tuple(languages.split("+"))
    installed = engine.languages() - INTERNAL_LANGUAGES
    missing = [name for name in names if name not in installed]
    if missing:
        raise errors.ParametersInvalid(
            f"languages not installed: {', '.join(missing)}; "
            f"installed: {', '.join(sorted(installed))}"
        )
    return names


def read(image: Image.Image, languages: tuple[str, ...], pagesegmode: int, seconds: float) -> Page:
    """What is read in an image, in its pixels; `dpi` in its `info` is believed, if it is there.

    Raises:
        errors.PageTimeout, errors.PageUnreadable
    """
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
        raise errors.PageUnreadable(str(refused) or "Tesseract cannot read such an image") from None
    dpi = image.info.get("dpi")
    return hocr.parse(found, 1, float(dpi[1]) if dpi else None)


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
