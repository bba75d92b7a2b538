"""Uncompressed line images: they are used, and change neither a pixel nor a letter."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocr_tasks.plugin import line_images, tesseract
from ocr_tasks.plugin.tesseract import Model
from tests.ocr_tasks.pipeline.test_document import full_page, picture

REPOSITORY = Path(__file__).parents[3]

ENGLISH = Model(("eng",))

#: Prints whether the library is loaded, and the hOCR of a page.
SCRIPT = """
import logging, sys
logging.basicConfig(level="INFO")
{before}
from ocr_tasks.plugin import tesseract
from PIL import Image
image = Image.open(sys.argv[1])
image.load()
print(tesseract._line_images is not None)
print(tesseract.read(image, tesseract.Model(("eng",)), seconds=60))
"""


#: Hides the library.
WITHOUT = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: (
    None if name == "ocr_tasks_line_images" else find(name, *more)
)
"""


@pytest.fixture
def library() -> ctypes.CDLL:
    """Returns the library of this process, which scripts/setup has built."""
    assert tesseract._line_images is not None
    return tesseract._line_images


def run(image: Path, before: str = "") -> tuple[str, str, str]:
    """Runs SCRIPT, and returns whether the library was loaded, the hOCR, and the log."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before), image],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    loaded, result = done.stdout.split("\n", 1)
    return loaded, result, done.stderr


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_tesseract_writes_its_line_images_with_the_library(mode: str, library: ctypes.CDLL) -> None:
    before = line_images.written(library)

    result = tesseract.read(full_page().convert(mode), ENGLISH, seconds=60)

    assert line_images.written(library) - before >= len(result.text.splitlines()) > 1


def test_the_result_is_the_same_without_the_library(tmp_path: Path) -> None:
    image = tmp_path / "page.png"
    full_page().convert("RGB").save(image, dpi=(150, 150))

    loaded, expected, log = run(image, WITHOUT)
    assert loaded == "False"
    assert (
        log.count("line images are compressed, because ocr_tasks_line_images is not installed") == 1
    )

    loaded, result, log = run(image)
    assert loaded == "True"
    assert log.count("line images are not compressed") == 1
    assert result == expected


def test_a_library_that_cannot_be_loaded_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "damaged.so").write_bytes(b"not a library")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(line_images, "_NAME", "damaged")

    assert line_images.load() is None
    assert "line images are compressed: " in caplog.text


@pytest.mark.parametrize("kind", ["changed pixels", "no pixels", "old Leptonica"])
def test_a_library_that_fails_its_check_writes_png(
    kind: str,
    library: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = tesseract.tesserocr.tesserocr.__file__
    real = ctypes.CDLL(module)

    class Faulty:
        """Leptonica with a fault."""

        def __getattr__(self, name: str) -> Any:
            if kind == "old Leptonica" and name == "pixWriteMemSpix":
                raise AttributeError(name)
            if kind == "no pixels" and name == "pixReadMem":
                return NoImage()
            if kind == "changed pixels" and name == "pixReadMem":
                return Inverted()
            return getattr(real, name)

    class NoImage:
        restype: Any = None

        def __call__(self, *_: Any) -> None:
            return None

    class Inverted(NoImage):
        def __call__(self, *arguments: Any) -> Any:
            real.pixReadMem.restype = real.pixInvert.restype = ctypes.c_void_p
            image = ctypes.c_void_p(real.pixReadMem(*arguments))
            return real.pixInvert(image, image)

    try:
        monkeypatch.setattr(line_images.ctypes, "CDLL", lambda path: Faulty())
        line_images.connect(library, module)
        monkeypatch.undo()
        before = line_images.written(library)

        result = tesseract.read(picture("The zebra is here"), ENGLISH, seconds=60)

        assert line_images.written(library) == before
        assert "line images are compressed: " in caplog.text
    finally:
        line_images.connect(library, module)
    assert tesseract.read(picture("The zebra is here"), ENGLISH, seconds=60) == result
    assert line_images.written(library) > before


def test_it_writes_other_formats_as_leptonica_does(library: ctypes.CDLL) -> None:
    leptonica = ctypes.CDLL(tesseract.tesserocr.tesserocr.__file__)
    leptonica.pixCreate.restype = ctypes.c_void_p
    image = ctypes.c_void_p(leptonica.pixCreate(8, 8, 8))
    data, size = ctypes.c_void_p(), ctypes.c_size_t()
    bmp, png = 1, 3

    assert library.pixWriteMem(ctypes.byref(data), ctypes.byref(size), image, bmp) == 0
    assert ctypes.string_at(data, 2) == b"BM"
    assert library.pixWriteMem(ctypes.byref(data), ctypes.byref(size), image, png) == 0
    assert ctypes.string_at(data, 4) == b"spix"
