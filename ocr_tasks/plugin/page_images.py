"""The images of a page that cannot be decoded, and that are therefore missing from it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pikepdf


def has_damaged(path: Path, number: int) -> bool:
    """Returns whether a page has a JPEG 2000 image that cannot be decoded. `number` is 1-based.

    Libraries draw nothing of such an image, and report no error. Other images are drawn in part.
    """
    with pikepdf.open(path) as pdf:
        images = pdf.pages[number - 1].get_images().values()
        return any(map(_is_damaged, images))


def _is_damaged(image: pikepdf.Object) -> bool:
    names = image.get("/Filter")
    filters = list(names.as_list()) if isinstance(names, pikepdf.Array) else [names]
    if pikepdf.Name.JPXDecode not in filters:
        return False
    try:
        pikepdf.PdfImage(cast("pikepdf.Stream", image)).as_pil_image().load()
    except Exception:  # pikepdf and Pillow have many errors for damaged images
        return True
    return False
