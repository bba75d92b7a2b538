"""Previews: small JPEG images of pages, which the web page shows next to their text."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ocr_tasks.storage import atomic

_QUALITY = 60


def from_picture(image: Image.Image, target: Path, pixels: int) -> None:
    """Writes a preview that is about `pixels` wide, at most one and a half times as wide."""
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    # Reducing by a whole factor is several times as fast as resizing to the exact width.
    image = image.reduce(max(1, round(image.width / pixels)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    atomic.write(target, buffer.getvalue())
