"""Small images of pages, to be shown beside their text."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ocr_tasks.storage import atomic

_QUALITY = 60


def from_picture(image: Image.Image, target: Path, pixels: int) -> None:
    """Writes a preview that is about `pixels` wide."""
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    # By a whole factor, which is several times faster than any size; at most half as wide again.
    image = image.reduce(max(1, round(image.width / pixels)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    atomic.write(target, buffer.getvalue())
