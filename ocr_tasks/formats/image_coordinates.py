"""Converts the boxes of a page to pixels of the image that the page was created from.

OCR runs on a rasterized PDF page, which can differ from the image in size and rotation.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word

_Point = tuple[float, float]

#: Maps a point in an image rotated clockwise, by the degrees, to the point in the original image.
#: Coordinates are fractions of width and height.
_ROTATE_BACK: dict[int, Callable[[float, float], _Point]] = {
    0: lambda x, y: (x, y),
    90: lambda x, y: (y, 1 - x),
    180: lambda x, y: (1 - x, 1 - y),
    270: lambda x, y: (1 - y, x),
}

#: Maps a point in an upright image to the point in the stored image, by EXIF orientation.
_STORED: dict[int, Callable[[float, float], _Point]] = {
    1: _ROTATE_BACK[0],
    2: lambda x, y: (1 - x, y),
    3: _ROTATE_BACK[180],
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: _ROTATE_BACK[90],
    7: lambda x, y: (1 - y, 1 - x),
    8: _ROTATE_BACK[270],
}

#: Degrees by which text in the stored image is turned counterclockwise, by EXIF orientation. In a
#: mirrored image, text has no such angle.
_TURNED = {1: 0, 3: 180, 6: 90, 8: 270}


def in_image(page: Page, width: int, height: int, orientation: int = 1) -> Page:
    """Returns the page with boxes in pixels of the stored image, which is `width` by `height`.

    `orientation` is the image's EXIF orientation. It was applied first; then the page, which was
    rotated clockwise by `page.rotation`, was rotated back. If the text in the image does not run
    from left to right, lines have an angle and no baseline, because hOCR's form cannot express it.
    """
    if (width, height, page.rotation % 360, orientation) == (page.width, page.height, 0, 1):
        return page
    if page.width < 1 or page.height < 1:
        return structs.replace(page, width=width, height=height, blocks=())
    back, stored = _ROTATE_BACK[-page.rotation % 360], _STORED[orientation]
    turned = page.rotation % 360 != 0 or orientation != 1

    def box(old: Box) -> Box:
        corners = [
            stored(*back(x / page.width, y / page.height))
            for x, y in ((old[0], old[1]), (old[2], old[3]))
        ]
        left, right = sorted(round(x * width) for x, _ in corners)
        top, bottom = sorted(round(y * height) for _, y in corners)
        return left, top, right, bottom

    def baseline(old: tuple[float, float] | None) -> tuple[float, float] | None:
        if old is None or turned:
            return None
        down = height / page.height
        return old[0] * down * page.width / width, old[1] * down

    def angle(old: int) -> int:
        turned_by = _TURNED.get(orientation)
        return 0 if turned_by is None else (old - page.rotation + turned_by) % 360

    blocks = tuple(_transform(block, box, baseline, angle) for block in page.blocks)
    sides = sorted((page.width, page.height)), sorted((width, height))
    dpi = page.dpi * sides[1][1] / sides[0][1]
    return structs.replace(page, width=width, height=height, dpi=dpi, blocks=blocks)


def _transform(
    block: Block,
    box: Callable[[Box], Box],
    baseline: Callable[[tuple[float, float] | None], tuple[float, float] | None],
    angle: Callable[[int], int],
) -> Block:
    def word(old: Word) -> Word:
        return Word(old.text, box(old.box), old.confidence)

    def line(old: Line) -> Line:
        words = tuple(map(word, old.words))
        return Line(box(old.box), baseline(old.baseline), words, angle(old.angle))

    def paragraph(old: Paragraph) -> Paragraph:
        return Paragraph(box(old.box), old.language, old.direction, tuple(map(line, old.lines)))

    return Block(box(block.box), tuple(map(paragraph, block.paragraphs)))
