"""An OCRmyPDF plugin whose engine returns recorded results of Tesseract for known images.

It is for tests that are not about OCR. Tesseract processes images that are unknown. `python -m
tests.plugins.replay` records the images again, as `tests/data/read/NAME.*`.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ocrmypdf
from ocrmypdf import hookimpl
from PIL import Image, ImageChops, PngImagePlugin

from ocr_tasks.plugin import engine
from ocr_tasks.plugin.engine import PageEngine

FOLDER = Path(__file__).parents[1] / "data" / "read"

#: The width and height in pixels of the small image that identifies a page.
_SIDE = 64

#: The maximum difference of a pixel of two such images of the same page, in gray levels.
_OTHER = 12

#: The maximum difference of sizes in pixels: renderers round differently.
_ROUNDED = 2


@dataclass(frozen=True)
class Recording:
    """An image with its recorded result."""

    size: tuple[int, int]
    look: Image.Image
    hocr: str
    text: str

    def shows(self, size: tuple[int, int], look: Image.Image) -> bool:
        """Returns whether it shows the same page as an image of this size and small image."""
        pairs = zip(self.size, size, strict=True)
        if any(abs(here - there) > _ROUNDED for here, there in pairs):
            return False
        _, most = ImageChops.difference(self.look, look).getextrema()
        return bool(most < _OTHER)


class ReplayEngine(PageEngine):
    """Returns the words of known images. With `keeps`, it records the unknown ones."""

    keeps = False

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        with Image.open(input_file) as image:
            known = find(image) if _as_recorded(options) else None
            if known:
                output_hocr.write_text(known.hocr, encoding="utf-8")
                output_text.write_text(known.text, encoding="utf-8")
                engine.keep_preview(image)
        if known:
            return
        PageEngine.generate_hocr(input_file, output_hocr, output_text, options)
        if ReplayEngine.keeps:
            with Image.open(input_file) as image:
                _keep(image, output_hocr.read_text("utf-8"), output_text.read_text("utf-8"))


@hookimpl
def get_ocr_engine(options: Any) -> ReplayEngine:
    return ReplayEngine()


def find(image: Image.Image) -> Recording | None:
    """Returns the recording of an image, or None."""
    look = _look(image)
    return next((known for known in recordings() if known.shows(image.size, look)), None)


@cache
def recordings() -> tuple[Recording, ...]:
    """Returns all recordings."""
    return tuple(_recordings())


def _recordings() -> Iterator[Recording]:
    for path in sorted(FOLDER.glob("*.png")):
        with Image.open(path) as look:
            width, height = look.info["size"].split("x")
            yield Recording(
                (int(width), int(height)),
                look.copy(),
                path.with_suffix(".hocr").read_text(encoding="utf-8"),
                path.with_suffix(".txt").read_text(encoding="utf-8"),
            )


def _look(image: Image.Image) -> Image.Image:
    return image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)


def _as_recorded(options: Any) -> bool:
    asked = options.tesseract
    plain = asked.pagesegmode is None and asked.oem is None and not asked.thresholding
    return list(options.languages) == ["eng"] and plain and bool(asked.timeout)


# Recording


def record(*sources: Path) -> None:
    """Runs Tesseract on all pages of these documents, and records those that are unknown."""
    ReplayEngine.keeps = True
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for source in sources:
            options = ocrmypdf.OcrOptions(
                input_file=source,
                output_file=Path(name, "out.pdf"),
                force_ocr=True,
                use_threads=True,
                jobs=1,
                languages=["eng"],
            )
            ocrmypdf.ocr(options, plugins=["ocr_tasks.plugin", "tests.plugins.replay"])


def _keep(image: Image.Image, hocr: str, text: str) -> None:
    words = re.findall(r"[a-z]{4,}", text.lower())[:4]
    name = "-".join([f"{len(recordings()) + 1:02}", *words])
    size = PngImagePlugin.PngInfo()
    size.add_text("size", f"{image.width}x{image.height}")
    _look(image).save(FOLDER / f"{name}.png", pnginfo=size, optimize=True)
    (FOLDER / f"{name}.hocr").write_text(hocr, encoding="utf-8")
    (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
    recordings.cache_clear()


def main() -> None:
    from tests.conftest import DATA, SIX_PAGES
    from tests.ocr_tasks.pipeline.test_document import WORDS, scan

    with tempfile.TemporaryDirectory() as name:
        for path in FOLDER.glob("*"):
            path.unlink()
        record(DATA / "huckleberry-finn-p22.pdf", SIX_PAGES, scan(Path(name, "in.pdf"), *WORDS))


if __name__ == "__main__":
    # By its name, like OCRmyPDF loads it.
    importlib.import_module("tests.plugins.replay").main()
