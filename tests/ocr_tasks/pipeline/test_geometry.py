"""Each word is where its ink is on the visible page, whatever the boxes and the rotation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest
from pikepdf import Array
from PIL import Image, ImageDraw, ImageFont

from tests.ocr_tasks.pipeline.test_document import Run, read

pytestmark = pytest.mark.usefixtures("service")

SIZE = (992, 606)
CROP = (40, 108, 420, 268)
TEXT = ["The", "garden", "is", "here"]


def picture() -> Image.Image:
    """Returns two lines at 144 DPI, of which CROP shows the first one."""
    image = Image.new("L", SIZE, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(60)
    draw.text((160, 180), " ".join(TEXT), fill=0, font=font)
    draw.text((160, 440), "unseen thunder", fill=0, font=font)
    return image


def plain(page: pikepdf.Page) -> None:
    pass


def cropped(page: pikepdf.Page) -> None:
    page.CropBox = Array([*CROP])


def beyond(page: pikepdf.Page) -> None:
    page.CropBox = Array([CROP[0], CROP[1], 900, 900])


def moved(page: pikepdf.Page) -> None:
    """Moves the origin of the page to its middle."""
    page.contents_add(b"1 0 0 1 -200 -150 cm", prepend=True)
    page.MediaBox = Array([-200, -150, SIZE[0] / 2 - 200, SIZE[1] / 2 - 150])


def moved_and_cropped(page: pikepdf.Page) -> None:
    moved(page)
    page.CropBox = Array([CROP[0] - 200, CROP[1] - 150, CROP[2] - 200, CROP[3] - 150])


def units(page: pikepdf.Page) -> None:
    page.UserUnit = 2


def turned(page: pikepdf.Page, angle: int) -> None:
    """Lays the scan on its side, and rotates the page so that it is shown upright."""
    width, height = SIZE[0] / 2, SIZE[1] / 2
    matrix, size = {
        90: (f"0 1 -1 0 {height} 0", (height, width)),
        180: (f"-1 0 0 -1 {width} {height}", (width, height)),
        270: (f"0 -1 1 0 0 {width}", (height, width)),
    }[angle]
    left, bottom, right, top = CROP
    page.CropBox = {
        90: Array([height - top, left, height - bottom, right]),
        180: Array([width - right, height - top, width - left, height - bottom]),
        270: Array([bottom, width - right, top, width - left]),
    }[angle]
    page.contents_add(f"{matrix} cm".encode(), prepend=True)
    page.MediaBox = Array([0, 0, *size])
    page.Rotate = angle


GEOMETRIES: dict[str, Callable[[pikepdf.Page], None]] = {
    "plain": plain,
    "cropped": cropped,
    "cropped beyond the page": beyond,
    "moved": moved,
    "moved and cropped": moved_and_cropped,
    "large units": units,
    "cropped, 90": lambda page: turned(page, 90),
    "cropped, 180": lambda page: turned(page, 180),
    "cropped, 270": lambda page: turned(page, 270),
}
WHOLE = {"plain", "moved", "large units"}


def document(path: Path) -> Path:
    """Writes the scan once for each geometry."""
    picture().save(path, "PDF", resolution=144)
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        for _ in range(len(GEOMETRIES) - 1):
            pdf.pages.append(pdf.pages[0])
        for page, change in zip(pdf.pages, GEOMETRIES.values(), strict=True):
            change(page)
        pdf.save(path)
    return path


def seen(path: Path) -> list[Image.Image]:
    """Returns images of what a viewer shows, at 72 DPI."""
    pdf = pypdfium2.PdfDocument(path)
    try:
        return [page.render(scale=1).to_pil().convert("L") for page in pdf]
    finally:
        pdf.close()


def sizes(path: Path) -> list[tuple[float, float]]:
    """Returns the sizes of what a viewer shows, in points."""
    with pikepdf.open(path) as pdf:
        units = [float(page.obj.get("/UserUnit", 1)) for page in pdf.pages]
    images = seen(path)
    return [(i.width * unit, i.height * unit) for i, unit in zip(images, units, strict=True)]


def words(run: Run) -> dict[str, dict[str, list[float]]]:
    """Returns the boxes of the words of each geometry, relative to the size of the page."""
    pages = json.loads(run.artifact("json").read_text())["pages"]
    return {
        name: {
            word["text"]: [
                edge / (page["height"] if index % 2 else page["width"])
                for index, edge in enumerate(word["box"])
            ]
            for line in page["lines"]
            for word in line["words"]
        }
        for name, page in zip(GEOMETRIES, pages, strict=True)
    }


def check(run: Run) -> None:
    """Checks each word against the image of its page in the resulting PDF, and in the preview."""
    images = seen(run.artifact("pdf"))
    for number, (name, found) in enumerate(words(run).items()):
        assert list(found)[:4] == TEXT, name
        assert ("unseen" in found) is (name in WHOLE), name
        preview = Image.open(run.folder.page_preview(number + 1)).convert("L")
        for image in (images[number], preview):
            for text, box in found.items():
                corners = [round(edge * image.size[index % 2]) for index, edge in enumerate(box)]
                assert image.crop(tuple(corners)).getextrema()[0] < 140, (name, text)
            assert image.width / image.height == pytest.approx(
                images[number].width / images[number].height, rel=0.02
            )


@pytest.mark.parametrize("chosen", [{}, {"mode": "force"}, {"mode": "redo"}], ids=str)
def test_each_word_is_on_its_ink(chosen: dict[str, Any], tmp_path: Path) -> None:
    source = document(tmp_path / "in.pdf")

    first = read(source, **chosen)

    check(first)
    before, after = sizes(source), sizes(first.artifact("pdf"))
    for name, old, new in zip(GEOMETRIES, before, after, strict=True):
        assert new == pytest.approx(old, abs=1), name

    second = read(first.artifact("pdf"))  # keeps the text of the first one

    check(second)
    for name, kept in words(second).items():
        for text, box in words(first)[name].items():
            assert kept[text] == pytest.approx(box, abs=0.04), (name, text)


def test_a_replaced_page_does_not_inherit_a_crop_box(tmp_path: Path) -> None:
    picture().save(tmp_path / "in.pdf", "PDF", resolution=144)
    with pikepdf.open(tmp_path / "in.pdf", allow_overwriting_input=True) as pdf:
        pdf.Root.Pages.CropBox = Array([*CROP])
        pdf.save(tmp_path / "in.pdf")

    run = read(tmp_path / "in.pdf", mode="force")

    assert seen(run.artifact("pdf"))[0].size == pytest.approx((380, 160), abs=1)
    assert run.text.split() == TEXT
