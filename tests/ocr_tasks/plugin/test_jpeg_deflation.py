"""JPEGs are compressed with deflate only if that makes them noticeably smaller."""

from __future__ import annotations

import io
from pathlib import Path

import img2pdf
import pikepdf
import pytest
from PIL import Image

from ocr_tasks.plugin import jpeg_deflation
from tests.ocr_tasks.pipeline.test_document import picture, read

pytestmark = pytest.mark.usefixtures("service")


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, dpi=(150, 150))
    return buffer.getvalue()


def grain() -> Image.Image:
    """Returns a page with the grain of paper, as scanners see it."""
    page = picture("The zebra is here")
    return Image.blend(page, Image.effect_noise(page.size, 60).convert("RGB"), 0.3)


@pytest.mark.parametrize(
    ("image", "filters"),
    [
        (picture("The zebra is here"), ["/FlateDecode", "/DCTDecode"]),
        (grain(), ["/DCTDecode"]),
    ],
    ids=["drawn", "scanned"],
)
def test_only_compressible_images_are_compressed(
    image: Image.Image, filters: list[str], tmp_path: Path
) -> None:
    content = jpeg(image)
    (tmp_path / "in.pdf").write_bytes(img2pdf.convert(content))

    run = read(tmp_path / "in.pdf")

    assert "zebra" in run.text
    with pikepdf.open(run.artifact("pdf")) as pdf:
        (found,) = pdf.pages[0].get_images().values()
        kept = found.get("/Filter")
        assert [str(name) for name in (kept if len(filters) > 1 else [kept])] == filters
        assert (found.read_raw_bytes() == content) is (len(filters) == 1)


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
def test_any_size_can_be_estimated(size: int) -> None:
    assert jpeg_deflation.is_compressible(bytes(size)) is (size >= 100)
