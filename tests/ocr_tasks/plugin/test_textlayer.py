"""Words of existing text: each box lies on the ink of its word, whatever the boxes of the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from pikepdf import Array, Dictionary, Name

from ocr_tasks.formats.page import Page
from ocr_tasks.plugin import textlayer

LINES = ("garden tools", "harbour window")


def text_page(path: Path, change: Callable[[pikepdf.Pdf, pikepdf.Page], None]) -> Path:
    """Writes a page of 400 × 300 points with two lines, and changes its boxes."""
    with pikepdf.new() as pdf:
        page = pdf.add_blank_page(page_size=(400, 300))
        font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
        page.Resources = Dictionary(Font=Dictionary(F=font))
        shown = b"BT /F 20 Tf 120 180 Td (garden tools) Tj 0 -40 Td (harbour window) Tj ET"
        page.Contents = pdf.make_stream(shown)
        change(pdf, page)
        pdf.save(path)
    return path


def plain(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    pass


def cropped(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    page.CropBox = Array([100, 100, 350, 250])


def inherited(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    pdf.Root.Pages.CropBox = Array([100, 100, 350, 250])


def crop_beyond(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    page.CropBox = Array([-100, -100, 900, 900])


def swapped(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    page.MediaBox = Array([400, 300, 0, 0])


def shifted(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
    page.MediaBox = Array([50, 60, 450, 360])


def turned(angle: int) -> Callable[[pikepdf.Pdf, pikepdf.Page], None]:
    def change(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
        inherited(pdf, page)
        page.Rotate = angle

    return change


def words(path: Path) -> Page:
    with textlayer.document(path) as pdf:
        return textlayer.words(pdf, 1)


def blackest(path: Path, page: Page, box: tuple[int, int, int, int]) -> int:
    pdf = pypdfium2.PdfDocument(path)
    try:
        image = pdf[0].render(scale=textlayer.DPI / 72).to_pil().convert("L")
    finally:
        pdf.close()
    assert abs(image.width - page.width) <= 1
    assert abs(image.height - page.height) <= 1
    darkest: int = image.crop(box).getextrema()[0]
    return darkest


@pytest.mark.parametrize(
    "change",
    [
        *(plain, cropped, inherited, crop_beyond, swapped, shifted),
        *(turned(90), turned(180), turned(270)),
    ],
    ids=["plain", "cropped", "inherited", "beyond", "swapped", "shifted", "90", "180", "270"],
)
def test_each_box_lies_on_its_word(
    change: Callable[[pikepdf.Pdf, pikepdf.Page], None], tmp_path: Path
) -> None:
    path = text_page(tmp_path / "in.pdf", change)

    page = words(path)

    found = list(page.words)
    assert sorted(word.text for word in found) == sorted(" ".join(LINES).split())
    for word in found:
        left, top, right, bottom = word.box
        assert 0 <= left < right <= page.width + 1
        assert 0 <= top < bottom <= page.height + 1
        assert blackest(path, page, word.box) < 100, word


#: A matrix for each number of degrees by which text is turned clockwise.
TURNS = {0: "1 0 0 1 0 0", 90: "0 -1 1 0 0 300", 180: "-1 0 0 -1 400 300", 270: "0 1 -1 0 400 0"}


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("by_words", [False, True], ids=["lines", "words"])
def test_turned_text_keeps_its_order(
    turn: int, rotation: int, by_words: bool, tmp_path: Path
) -> None:
    """PDFium sorts some of these lines, and words, against their direction."""
    texts = ("one two", "three four", "five six")

    def show(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
        rows = [f"{TURNS[turn]} cm"]
        for row, text in enumerate(texts):
            for column, part in enumerate(text.split() if by_words else [text]):
                at = f"{60 + 60 * column} {200 - 20 * row}"
                rows.append(f"BT /F 12 Tf {at} Td ({part}) Tj ET")
        page.Contents = pdf.make_stream("\n".join(rows).encode())
        page.Rotate = rotation

    path = text_page(tmp_path / "in.pdf", show)

    page = words(path)

    assert tuple(" ".join(word.text for word in line.words) for line in page.lines) == texts
    assert {line.angle for line in page.lines} == {(-turn - rotation) % 360}
    assert all(blackest(path, page, word.box) < 100 for word in page.words)
    assert all(blackest(path, page, line.box) < 100 for line in page.lines)


def test_text_outside_of_the_visible_page_is_left_out(tmp_path: Path) -> None:
    def crop(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
        page.CropBox = Array([130, 160, 350, 250])

    page = words(text_page(tmp_path / "in.pdf", crop))

    assert [word.text for word in page.words] == ["garden", "tools"]  # the first one is cut off
    assert next(page.words).box[0] == 0


def test_a_hyphenated_word_is_two_words(tmp_path: Path) -> None:
    def hyphenate(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
        shown = b"BT /F 20 Tf 120 180 Td (a docu-) Tj 0 -24 Td (ment of words) Tj ET"
        page.Contents = pdf.make_stream(shown)

    page = words(text_page(tmp_path / "in.pdf", hyphenate))

    lines = [line for paragraph in page.paragraphs for line in paragraph.lines]
    texts = [[word.text for word in line.words] for line in lines]
    assert texts == [["a", "docu-"], ["ment", "of", "words"]]
    assert lines[0].box[3] <= lines[1].box[1]


def test_what_was_filled_into_a_form_and_remarks_are_text(tmp_path: Path) -> None:
    def fill(pdf: pikepdf.Pdf, page: pikepdf.Page) -> None:
        font = page.Resources.Font.F
        rows = []
        for kind, text, bottom in (("Widget", "Mustermann", 20), ("FreeText", "remark", 60)):
            look = pdf.make_stream(f"BT /F 20 Tf 2 4 Td ({text}) Tj ET".encode())
            look.update(
                Dictionary(
                    Type=Name.XObject,
                    Subtype=Name.Form,
                    BBox=Array([0, 0, 200, 30]),
                    Resources=Dictionary(Font=Dictionary(F=font)),
                )
            )
            annotation = Dictionary(Type=Name.Annot, Subtype=Name("/" + kind), F=4, Contents=text)
            annotation.Rect = Array([100, bottom, 300, bottom + 30])
            annotation.AP = Dictionary(N=look)
            if kind == "Widget":
                annotation.update(Dictionary(FT=Name.Tx, T="name", V=text))
            rows.append(pdf.make_indirect(annotation))
        page.Annots = Array(rows)
        pdf.Root.AcroForm = Dictionary(Fields=Array(rows[:1]))

    path = text_page(tmp_path / "in.pdf", fill)

    found = [word.text for word in words(path).words]

    assert {"Mustermann", "remark", "garden"} <= set(found)
    with textlayer.document(path) as pdf:
        picture = textlayer.picture(pdf, 1, 400).convert("L")
    assert picture.crop((100, 250, 300, 280)).getextrema()[0] < 100
