"""The in-process OCR engine compared with the `tesseract` program and with stock OCRmyPDF."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import ocrmypdf
import pikepdf
import pytest
from ocrmypdf._exec import tesseract as program
from PIL import Image

from ocr_tasks.formats import hocr
from ocr_tasks.plugin import engine, tesseract
from ocr_tasks.plugin.engine import PageEngine
from ocr_tasks.plugin.tesseract import Model
from tests.conftest import DATA
from tests.ocr_tasks.pipeline.test_document import full_page, noise, picture

ENGLISH = Model(("eng",))
PLUGIN = ["--plugin", "ocr_tasks.plugin"]


def by_program(image: Image.Image, folder: Path, *arguments: str) -> tuple[bytes, str]:
    """Returns the hOCR and text of a PNG from the `tesseract` program."""
    image.save(folder / "in.png", dpi=(150, 150))
    command = ["tesseract", *arguments, folder / "in.png", folder / "out", "hocr", "txt"]
    # Its threads would busy-wait for each other.
    alone = os.environ | {"OMP_THREAD_LIMIT": "1"}
    subprocess.run(command, check=True, capture_output=True, env=alone)
    return (folder / "out.hocr").read_bytes(), (folder / "out.txt").read_text()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_words_are_those_of_the_program(mode: str, tmp_path: Path) -> None:
    image = full_page().convert(mode)
    image.info["dpi"] = (150, 150)

    result = tesseract.read(image, ENGLISH, seconds=60)

    expected, text = by_program(image, tmp_path, "-l", "eng")
    assert hocr.parse(result.hocr, 1, None) == hocr.parse(expected, 1, None)
    assert result.text == text.removesuffix("\f")


@pytest.mark.parametrize("pagesegmode", [4, 6, 11])
def test_page_segmentation_modes_match_the_program(pagesegmode: int, tmp_path: Path) -> None:
    image = picture("The zebra is here")
    image.info["dpi"] = (150, 150)

    result = tesseract.read(image, ENGLISH, pagesegmode=pagesegmode, seconds=60)

    expected, _ = by_program(image, tmp_path, "-l", "eng", "--psm", str(pagesegmode))
    assert hocr.parse(result.hocr, 1, None) == hocr.parse(expected, 1, None)


def test_a_page_does_not_affect_the_next_one(tmp_path: Path) -> None:
    first, second = picture("The zebra is here"), full_page()
    for image in (first, second):
        image.info["dpi"] = (150, 150)
    alone = tesseract.read(second, Model(("eng", "deu")), seconds=60)

    tesseract.read(first, Model(("eng", "deu")), pagesegmode=6, thresholding=2, seconds=60)

    assert tesseract.read(second, Model(("eng", "deu")), seconds=60) == alone


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_the_orientation_matches_the_program(turn: int, tmp_path: Path) -> None:
    image = full_page().rotate(turn, expand=True)
    image.info["dpi"] = (150, 150)
    image.save(tmp_path / "in.png", dpi=(150, 150))

    expected = program.get_orientation(tmp_path / "in.png", None, 60)
    assert tesseract.orientation(image, None, seconds=60) == tuple(expected)
    assert expected.angle == -turn % 360  # Pillow rotates in the other direction


def test_a_page_without_text_has_no_orientation() -> None:
    assert tesseract.orientation(Image.new("L", (800, 600), "white"), None, seconds=60) == (0, 0.0)


@pytest.mark.parametrize("angle", [0, 2, -3])
def test_the_skew_matches_the_program(angle: float, tmp_path: Path) -> None:
    image = full_page().rotate(angle, fillcolor="white")
    image.info["dpi"] = (150, 150)
    image.save(tmp_path / "in.png", dpi=(150, 150))

    found = math.degrees(tesseract.skew(image, ENGLISH, seconds=60))

    assert found == pytest.approx(program.get_deskew(tmp_path / "in.png", ["eng"], None, 60))
    assert found == pytest.approx(-angle, abs=0.5)


def test_a_page_that_exceeds_its_time_limit_is_abandoned() -> None:
    with pytest.raises(tesseract.TimeLimit):
        tesseract.read(noise(), ENGLISH, seconds=0.01)
    # and the interpreter can be used again
    assert "zebra" in tesseract.read(picture("The zebra is here"), ENGLISH, seconds=60).text


def test_a_call_that_ignores_its_time_limit_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tesseract, "_GRACE", 0.1)
    released = threading.Event()
    try:
        with pytest.raises(tesseract.TimeLimit):
            tesseract._call(lambda api: released.wait(60), ENGLISH, 0.1)
    finally:
        released.set()


def test_only_a_few_sets_of_languages_stay_loaded() -> None:
    models = [
        Model(languages) for languages in (("eng",), ("deu",), ("eng", "deu"), ("deu", "eng"))
    ]
    for model in [*models, Model(("eng",), 1), Model(("deu",), 1)]:
        tesseract.read(picture("zebra"), model, seconds=60)

    assert len(tesseract._models) == tesseract._MODEL_SETS
    assert Model(("deu",), 1) in tesseract._models
    assert Model(("eng",)) not in tesseract._models


def test_a_missing_language_is_refused() -> None:
    with pytest.raises(tesseract.Refused):
        tesseract.read(picture("zebra"), Model(("xyz",)), seconds=60)


def test_version_and_languages_match_the_program() -> None:
    assert engine.version() == str(program.version())
    assert engine.languages() == program.get_languages()


# Alone, as a plugin of the `ocrmypdf` program


def ocr(source: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ocrmypdf", *arguments, source, output]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def words_of(pdf: Path) -> str:
    return subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], check=True, capture_output=True, text=True
    ).stdout


def looks_of(pdf: Path) -> list[str]:
    """Returns a digest of the pixels of each page."""
    command = ["pdftoppm", "-r", "72", pdf]
    drawn = subprocess.run(command, check=True, capture_output=True).stdout
    return [hashlib.sha256(page).hexdigest() for page in drawn.split(b"P6\n")]


@pytest.fixture(scope="module")
def two_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the first lines of a color scan, and of a gray one."""
    source = tmp_path_factory.mktemp("engine") / "in.pdf"
    with pikepdf.open(DATA / "multipage.pdf") as pdf, pikepdf.new() as part:
        part.pages.extend([pdf.pages[0], pdf.pages[4]])
        for page in part.pages:
            left, _, right, top = (float(edge) for edge in page.mediabox)
            page.MediaBox = page.CropBox = [left, top - 150, right, top]
        part.save(source)
    return source


@pytest.fixture(scope="module")
def whole_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a color scan and a gray one."""
    source = tmp_path_factory.mktemp("engine") / "in.pdf"
    with pikepdf.open(DATA / "multipage.pdf") as pdf, pikepdf.new() as part:
        part.pages.extend([pdf.pages[0], pdf.pages[4]])
        part.save(source)
    return source


@pytest.fixture(scope="module")
def read_plainly(two_pages: Path) -> Path:
    """Returns the result for the first lines, with default options."""
    output = two_pages.with_name("ours.pdf")
    ocr(two_pages, output, *PLUGIN)
    return output


def test_the_pdf_matches_stock_ocrmypdf(
    two_pages: Path, read_plainly: Path, tmp_path: Path
) -> None:
    ocr(two_pages, tmp_path / "stock.pdf")

    assert len(words_of(read_plainly).split()) > 20
    assert words_of(read_plainly) == words_of(tmp_path / "stock.pdf")
    assert looks_of(read_plainly) == looks_of(tmp_path / "stock.pdf")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--rotate-pages", "--rotate-pages-threshold", "2", "--deskew", "--clean"],
        [
            *("--force-ocr", "--clean-final", "--output-type", "pdf", "--optimize", "0"),
            *("--tesseract-pagesegmode", "6", "--tesseract-thresholding", "sauvola"),
        ],
    ],
    ids=lambda arguments: " ".join(arguments) or "plain",
)
def test_whole_pages_match_stock_ocrmypdf_with_every_option(
    arguments: list[str], whole_pages: Path, tmp_path: Path
) -> None:
    ours, stock = tmp_path / "ours.pdf", tmp_path / "stock.pdf"
    ocr(whole_pages, stock, *arguments)
    ocr(whole_pages, ours, *PLUGIN, *arguments)

    assert words_of(ours) == words_of(stock)
    assert looks_of(ours) == looks_of(stock)


def test_a_time_limit_of_zero_disables_ocr_as_in_stock_ocrmypdf(tmp_path: Path) -> None:
    ocr(DATA / "huckleberry-finn-p22.pdf", tmp_path / "out.pdf", *PLUGIN, "--tesseract-timeout=0")

    assert words_of(tmp_path / "out.pdf").strip() == ""


def test_the_stock_engine_is_used_if_tesserocr_cannot_be_loaded(tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules['tesserocr'] = None\n"
        "import logging; logging.basicConfig()\n"
        "from ocrmypdf.__main__ import run; sys.exit(run(sys.argv[1:]))"
    )
    source = DATA / "huckleberry-finn-p22.pdf"
    command = [sys.executable, "-c", without, *PLUGIN, source, tmp_path / "out.pdf"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "stooping down so as" in words_of(tmp_path / "out.pdf")
    assert done.stderr.count("cannot load tesserocr") == 1


def test_color_pages_can_be_recognized_in_gray_and_keep_their_colors(
    two_pages: Path, read_plainly: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_GREY", "true")
    ocr(two_pages, tmp_path / "grey.pdf", *PLUGIN)

    assert looks_of(tmp_path / "grey.pdf") == looks_of(read_plainly)
    assert len(words_of(tmp_path / "grey.pdf").split()) > 20


def test_another_engine_can_be_selected(tmp_path: Path) -> None:
    options = ocrmypdf.OcrOptions(
        input_file=DATA / "huckleberry-finn-p22.pdf",
        output_file=tmp_path / "out.pdf",
        ocr_engine="none",
    )
    ocrmypdf.ocr(options, plugins=["ocr_tasks.plugin"])

    assert words_of(tmp_path / "out.pdf").strip() == ""
    assert PageEngine().version() == engine.version()
