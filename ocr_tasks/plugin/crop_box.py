"""Limits OCR to the part of a page that is shown: its crop box.

OCRmyPDF processes the media box, which can have text that no viewer shows. A page is changed after
it was scanned: everything that OCRmyPDF knows about its media box is then about the visible part.
"""

from __future__ import annotations

from decimal import Decimal

from ocrmypdf.pdfinfo.info import PageInfo

#: Left, bottom, right and top in points.
_Box = tuple[float, float, float, float]

_POINTS_PER_INCH = 72


def apply(info: PageInfo) -> None:
    """Changes the size, the media box and the positions of text of a page to its visible part."""
    media, visible = _sorted(info.mediabox), _visible(info)
    if visible == media:
        return
    info._mediabox = info._cropbox = visible
    unit = info.userunit / _POINTS_PER_INCH
    info._width_inches = Decimal(visible[2] - visible[0]) * unit
    info._height_inches = Decimal(visible[3] - visible[1]) * unit
    left, bottom = _corner(media, visible, info.rotation % 360)
    info._textboxes = [
        text._replace(
            bbox=(
                *(text.bbox[0] - left, text.bbox[1] - bottom),
                *(text.bbox[2] - left, text.bbox[3] - bottom),
            )
        )
        for text in info._textboxes
    ]


def _visible(info: PageInfo) -> _Box:
    """Returns the common part of crop box and media box, or the media box if there is none."""
    media, crop = _sorted(info.mediabox), _sorted(info.cropbox)
    left, bottom = max(media[0], crop[0]), max(media[1], crop[1])
    right, top = min(media[2], crop[2]), min(media[3], crop[3])
    return (left, bottom, right, top) if left < right and bottom < top else media


def _sorted(box: _Box) -> _Box:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _corner(media: _Box, visible: _Box, rotation: int) -> tuple[float, float]:
    """Returns where the visible part of the rotated page begins, from its lower left corner."""
    left, bottom = visible[0] - media[0], visible[1] - media[1]
    right, top = media[2] - visible[2], media[3] - visible[3]
    corners = {90: (bottom, right), 180: (right, top), 270: (top, left)}
    return corners.get(rotation, (left, bottom))  # viewers ignore other angles
