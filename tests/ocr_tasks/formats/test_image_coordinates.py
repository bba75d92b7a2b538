"""Mapping words to the original image of a page, checked with rotations by Pillow."""

from __future__ import annotations

import math

import pytest
from PIL import Image, ImageOps

from ocr_tasks.formats.image_coordinates import in_image
from ocr_tasks.formats.page import Block, Box, Line, Page, Paragraph, Word

TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


def _page(box: Box, size: tuple[int, int], rotation: int = 0) -> Page:
    line = Line(box, (0.1, -2.0), (Word("word", box, 0.5),))
    block = Block(box, (Paragraph(box, "deu", "ltr", (line,)),))
    return Page(3, *size, 300.0, (block,), "ocr", rotation)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_word_is_where_its_ink_is(orientation: int, rotation: int) -> None:
    stored = Image.new("L", (40, 60))
    stored.paste(255, (4, 10, 16, 14))
    exif = stored.getexif()
    exif[0x0112] = orientation
    raster = ImageOps.exif_transpose(stored)
    if rotation:
        # The page was rotated to the right by this angle, and rotated back to the left.
        raster = raster.transpose(TURNS[rotation])
    raster = raster.resize((raster.width * 3, raster.height * 3), Image.Resampling.NEAREST)
    box = raster.getbbox()
    assert box is not None

    placed = in_image(_page(box, raster.size, rotation), 40, 60, orientation)

    assert (placed.width, placed.height, placed.dpi) == (40, 60, 100)
    assert [word.box for word in placed.words] == [(4, 10, 16, 14)]
    assert [line.box for line in placed.lines] == [(4, 10, 16, 14)]
    upright = rotation == 0 and orientation == 1
    (line,) = placed.lines
    assert line.baseline == (pytest.approx((0.1, -2 / 3)) if upright else None)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_line_has_the_angle_from_its_first_to_its_last_word(
    orientation: int, rotation: int
) -> None:
    words = (Word("a", (10, 50, 12, 52), None), Word("b", (80, 50, 82, 52), None))
    line = Line((10, 50, 82, 52), None, words)
    block = Block(line.box, (Paragraph(line.box, None, None, (line,)),))
    page = Page(1, 100, 100, 300.0, (block,), "ocr", rotation)

    (placed,) = in_image(page, 100, 100, orientation).lines

    first, last = (word.box for word in placed.words)
    angle = math.degrees(math.atan2(first[1] - last[1], last[0] - first[0]))
    assert placed.angle == round(angle) % 360


def test_the_same_size_changes_nothing(scanned: Page) -> None:
    assert in_image(scanned, scanned.width, scanned.height) == scanned


def test_each_direction_has_its_scale() -> None:
    placed = in_image(_page((10, 10, 20, 30), (100, 100)), 200, 100)
    assert [word.box for word in placed.words] == [(20, 10, 40, 30)]
    assert next(placed.lines).baseline == (0.05, -2.0)


def test_a_page_without_ocr_gets_its_size() -> None:
    placed = in_image(Page.empty(1, 0, 0, 300), 40, 60)
    assert (placed.width, placed.height, placed.blocks) == (40, 60, ())
