"""Makes the paper of a page white.

OCRmyPDF 17 has the option `remove_background` and raises NotImplementedError for it. It calls no
hook at that point, so the function that raises is replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocrmypdf._pipelines import _common
from PIL import Image, ImageChops, ImageFilter

#: The paper is looked for in the image made this many times smaller, where letters are thin.
_SHRINK = 16
_NEIGHBOURHOOD = 5

_NAME = "preprocess_remove_background"


def install() -> None:
    """Puts `remove_background` where OCRmyPDF calls its own."""
    assert hasattr(_common, _NAME)  # noqa: S101  # a new OCRmyPDF may have moved it
    setattr(_common, _NAME, remove_background)


def remove_background(input_file: Path, page_context: Any) -> Path:
    """The page's image with white paper; the image itself where it is black and white."""
    with Image.open(input_file) as image:
        if image.mode == "1":
            return input_file
        colored = image if image.mode in ("L", "RGB") else image.convert("RGB")
        whitened = whiten(colored)
        output: Path = page_context.get_path("white.png")
        whitened.save(output, dpi=image.info.get("dpi", (300, 300)), compress_level=1)
    return output


def whiten(image: Image.Image) -> Image.Image:
    """A grey or RGB image in which the lightest tone of each neighbourhood is white."""
    small = image.resize(
        (max(1, image.width // _SHRINK), max(1, image.height // _SHRINK)), Image.Resampling.BOX
    )
    paper = small.filter(ImageFilter.MaxFilter(_NEIGHBOURHOOD)).filter(
        ImageFilter.GaussianBlur(_NEIGHBOURHOOD)
    )
    paper = paper.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.invert(ImageChops.subtract(paper, image))
