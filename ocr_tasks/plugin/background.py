"""Background removal: turns the paper of a page white.

OCRmyPDF 17 has the option `remove_background`, but raises NotImplementedError for it and has no
hook there. `install` replaces the function that raises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocrmypdf._pipelines import _common
from PIL import Image, ImageChops, ImageFilter

#: The paper color is estimated on an image scaled down by this factor, where letters almost vanish.
_SHRINK = 16

#: Size of the filters on that image, in pixels.
_NEIGHBORHOOD = 5

_NAME = "preprocess_remove_background"


def install() -> None:
    """Replaces OCRmyPDF's function with `remove_background`."""
    assert hasattr(_common, _NAME)  # noqa: S101  # another version of OCRmyPDF may not have it
    setattr(_common, _NAME, remove_background)


def remove_background(input_file: Path, page_context: Any) -> Path:
    """Returns the path of an image with white paper; black-and-white images are left unchanged."""
    with Image.open(input_file) as image:
        if image.mode == "1":
            return input_file
        colored = image if image.mode in ("L", "RGB") else image.convert("RGB")
        whitened = whiten(colored)
        output: Path = page_context.get_path("white.png")
        whitened.save(output, dpi=image.info.get("dpi", (300, 300)), compress_level=1)
    return output


def whiten(image: Image.Image) -> Image.Image:
    """Returns a grayscale or RGB image in which the lightest tone of each neighborhood is white."""
    small = image.resize(
        (max(1, image.width // _SHRINK), max(1, image.height // _SHRINK)), Image.Resampling.BOX
    )
    paper = small.filter(ImageFilter.MaxFilter(_NEIGHBORHOOD)).filter(
        ImageFilter.GaussianBlur(_NEIGHBORHOOD)
    )
    paper = paper.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.invert(ImageChops.subtract(paper, image))
