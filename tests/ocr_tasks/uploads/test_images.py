"""Conversion of images to pages: lossless where possible, upright, with a sensible size."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from PIL import Image, ImageCms

from ocr_tasks import errors
from ocr_tasks.uploads import images
from tests import documents


def any_size(width: int, height: int) -> None:
    """Accepts any size."""


def pages(path: Path, content: bytes, image_dpi: int | None = None) -> list[tuple[str, Path]]:
    source = path / "upload"
    source.write_bytes(content)
    return list(images.to_pdfs(source, image_dpi, any_size, 1000))


def page(path: Path, content: bytes, image_dpi: int | None = None) -> Path:
    ((_, made),) = pages(path, content, image_dpi)
    return made


def seen(pdf: Path, scale: float = 1.0) -> Image.Image:
    opened = pypdfium2.PdfDocument(pdf)
    try:
        image: Image.Image = opened[0].render(scale=scale).to_pil().convert("RGB")
        return image
    finally:
        opened.close()


def filters(pdf: Path) -> list[str]:
    with pikepdf.open(pdf) as opened:
        found = opened.pages[0].get_images().values()
        return [str(pikepdf.PdfImage(image).filters[0]) for image in found]


def gradient(mode: str = "RGB", size: tuple[int, int] = (300, 200)) -> Image.Image:
    """Returns an image where red grows to the right and green downwards."""
    image = Image.new("RGB", size)
    image.putdata(
        [
            (255 * x // size[0], 255 * y // size[1], 0)
            for y in range(size[1])
            for x in range(size[0])
        ]
    )
    return image.convert(mode)


def corners(image: Image.Image) -> list[tuple[bool, bool]]:
    """Returns whether red and green are strong in the four corners: top left, top right, bottom…"""
    width, height = image.size
    points = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
    return [(image.getpixel(point)[0] > 128, image.getpixel(point)[1] > 128) for point in points]


UPRIGHT = [(False, False), (True, False), (False, True), (True, True)]


def jpeg_2000_with_profile() -> bytes:
    """Returns a JPEG 2000 whose colors have a profile, as those of libraries do (colr, 15444-1)."""
    content = documents.encoded(gradient(), "JPEG2000")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    box = struct.pack(">I4s3s", 11 + len(profile), b"colr", b"\2\0\0") + profile
    old, head = content.index(b"colr") - 4, content.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", content, old)
    (outer,) = struct.unpack_from(">I", content, head)
    resized = struct.pack(">I", outer - length + len(box))
    return content[:head] + resized + content[head + 4 : old] + box + content[old + length :]


FORMATS = {
    "JPEG": ("image/jpeg", documents.encoded(gradient(), "JPEG", quality=95), "/DCTDecode"),
    "JPEG in CMYK": ("image/jpeg", documents.encoded(gradient("CMYK"), "JPEG"), "/DCTDecode"),
    "grey JPEG": ("image/jpeg", documents.encoded(gradient("L"), "JPEG"), "/DCTDecode"),
    "PNG": ("image/png", documents.encoded(gradient(), "PNG"), "/FlateDecode"),
    "palette PNG": ("image/png", documents.encoded(gradient("P"), "PNG"), "/FlateDecode"),
    "16-bit PNG": ("image/png", documents.encoded(gradient("I;16"), "PNG"), "/FlateDecode"),
    "TIFF": ("image/tiff", documents.encoded(gradient(), "TIFF"), "/FlateDecode"),
    "bilevel TIFF": ("image/tiff", documents.encoded(gradient("1"), "TIFF"), "/CCITTFaxDecode"),
    "lossless WebP": (
        "image/webp",
        documents.encoded(gradient(), "WEBP", lossless=True),
        "/FlateDecode",
    ),
    "lossy WebP": ("image/webp", documents.encoded(gradient(), "WEBP"), "/DCTDecode"),
    "GIF": ("image/gif", documents.encoded(gradient("P"), "GIF"), "/FlateDecode"),
    "BMP": ("image/bmp", documents.encoded(gradient(), "BMP"), "/FlateDecode"),
    "JPEG 2000": ("image/jp2", documents.encoded(gradient(), "JPEG2000"), "/JPXDecode"),
    "AVIF": ("image/avif", documents.encoded(gradient(), "AVIF"), "/DCTDecode"),
    "JPEG 2000 with a color profile": ("image/jp2", jpeg_2000_with_profile(), "/DCTDecode"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_becomes_a_page_with_the_right_filter(tmp_path: Path, name: str) -> None:
    media_type, content, wanted = FORMATS[name]
    ((told, made),) = pages(tmp_path, content)

    assert told == media_type
    assert filters(made) == [wanted]
    with pikepdf.open(made) as pdf:
        assert len(pdf.pages) == 1
    assert seen(made).getextrema()[0] != (255, 255)


def test_jpeg_and_jpeg_2000_are_embedded_unchanged(tmp_path: Path) -> None:
    for form in ("JPEG", "JPEG2000"):
        content = documents.encoded(gradient(), form)
        with pikepdf.open(page(tmp_path, content)) as pdf:
            (image,) = pdf.pages[0].get_images().values()
            raw = image.read_raw_bytes()
        # img2pdf drops markers of a JPEG that have no meaning in a PDF, and no image data.
        assert raw[-1000:] == content[-1000:]


def test_lossless_images_stay_lossless(tmp_path: Path) -> None:
    picture = gradient()
    for form in ("PNG", "TIFF", "BMP"):
        made = page(tmp_path, documents.encoded(picture, form))
        with pikepdf.open(made) as pdf:
            (image,) = pdf.pages[0].get_images().values()
            extracted = pikepdf.PdfImage(image).as_pil_image().convert("RGB")
            assert extracted.tobytes() == picture.tobytes(), form


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_images_are_rotated_upright(tmp_path: Path, form: str, orientation: int) -> None:
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = gradient()
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation

    made = page(tmp_path, documents.encoded(stored, form, exif=exif))

    shown = seen(made)
    assert shown.width > shown.height
    assert corners(shown) == UPRIGHT


def test_transparency_becomes_white(tmp_path: Path) -> None:
    for form in ("PNG", "WEBP", "GIF"):
        clear = Image.new("RGBA", (100, 100), (200, 0, 0, 0))
        made = page(tmp_path, documents.encoded(clear, form))
        assert seen(made).getpixel((20, 20)) == (255, 255, 255), form


def test_frames_become_pages(tmp_path: Path) -> None:
    frames = [documents.picture(text, "P", (400, 300)) for text in "abc"]
    for form in ("TIFF", "GIF"):
        content = documents.encoded(frames[0], form, save_all=True, append_images=frames[1:])
        assert len(pages(tmp_path, content)) == 3, form


def test_frames_are_converted_one_at_a_time(tmp_path: Path) -> None:
    frames = [Image.new("1", (80, 60)) for _ in range(50)]
    content = documents.encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    source = tmp_path / "upload"
    source.write_bytes(content)

    made = images.to_pdfs(source, None, any_size, 1000)
    next(made)

    assert len(list(tmp_path.glob("*.pdf"))) == 1


@pytest.mark.parametrize(
    ("pixels", "declared", "wanted", "dpi"),
    [
        ((2480, 3508), 300, None, 300),
        ((2480, 3508), None, None, 300),
        ((4000, 3000), 72, None, 342),
        ((4000, 3000), 96, None, 342),
        ((800, 600), 96, None, 96),
        ((400, 300), None, None, 100),
        ((12000, 9000), None, None, 600),
        ((2480, 3508), 300, 150, 150),
        ((14000, 9900), 300, None, 300),
        ((2480, 3508), 1, None, 300),
    ],
)
def test_resolutions_are_sensible(
    tmp_path: Path,
    pixels: tuple[int, int],
    declared: int | None,
    wanted: int | None,
    dpi: int,
) -> None:
    options = {"dpi": (declared, declared)} if declared else {}
    content = documents.encoded(Image.new("1", pixels, 1), "PNG", **options)
    with pikepdf.open(page(tmp_path, content, wanted)) as pdf:
        box = [float(edge) for edge in pdf.pages[0].mediabox]

    assert box[2] == pytest.approx(pixels[0] * 72 / dpi, rel=0.01)
    assert box[3] == pytest.approx(pixels[1] * 72 / dpi, rel=0.01)


def test_the_size_is_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def refuse(width: int, height: int) -> None:
        asked.append((width, height))
        raise errors.ImageTooLarge

    source = tmp_path / "upload"
    source.write_bytes(documents.huge_png(100_000, 90_000))
    with pytest.raises(errors.ImageTooLarge):
        list(images.to_pdfs(source, None, refuse, 1000))

    assert asked == [(100_000, 90_000)]


def tiff_of_compression(number: int) -> bytes:
    content = bytearray(documents.encoded(gradient("L"), "TIFF"))
    start = content.index(struct.pack("<HHI", 259, 3, 1)) + 8
    content[start : start + 2] = struct.pack("<H", number)
    return bytes(content)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


CUT = {
    form: half(documents.encoded(gradient(), form))
    for form in ("PNG", "TIFF", "GIF", "BMP", "WEBP", "JPEG2000", "AVIF")
}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        *((content, errors.ImageInvalid) for content in CUT.values()),
        (tiff_of_compression(34887), errors.TiffCompressionUnsupported),
        (b"garden and window", errors.UnsupportedType),
    ],
    ids=[*CUT, "LERC", "text"],
)
def test_the_error_says_whether_the_file_is_damaged_or_of_another_type(
    tmp_path: Path, content: bytes, error: type[errors.UploadError]
) -> None:
    with pytest.raises(error):
        pages(tmp_path, content)


@pytest.mark.parametrize("content", [b"", b"x", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((errors.UnsupportedType, errors.ImageInvalid)):
        pages(tmp_path, content)


#: 64 by 48 gray pixels. The libraries that may be distributed can only decode HEIC, so this was
#: created elsewhere.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA"
    "AAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAABQAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAAB"
    "AABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADw"
    "NgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAA"
    "AAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcA"
    "AAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWB"
    "AgMFhAAAABxtZGF0AAAAECgBrxmA7iRKX/+2asAGHMA="
)


def test_heic_becomes_a_page(tmp_path: Path) -> None:
    ((media_type, made),) = pages(tmp_path, HEIC)

    assert media_type == "image/heic"
    assert filters(made) == ["/DCTDecode"]
    assert seen(made).getpixel((10, 10)) == pytest.approx((90, 90, 90), abs=6)


# Images for OCR


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_an_image_of_any_mode_can_be_used_for_ocr(tmp_path: Path, mode: str) -> None:
    image = Image.new("L", (40, 20), 255)
    image.paste(0, (10, 5, 20, 15))
    if mode == "I;16":
        image = image.convert("I").point(lambda value: value * 257).convert("I;16")
    else:
        image = image.convert(mode)
    image.save(tmp_path / "in.tif", dpi=(300, 300))

    loaded = images.load(tmp_path / "in.tif", any_size)

    assert loaded.mode in ("1", "L", "P", "RGB")
    assert loaded.size == (40, 20)
    assert [round(float(value)) for value in loaded.info["dpi"]] == [300, 300]
    grey = loaded.convert("L")
    assert grey.getpixel((15, 10)) == 0
    assert grey.getpixel((30, 10)) == 255


def test_paper_is_white_where_an_image_is_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "in.png")
    assert images.load(tmp_path / "in.png", any_size).getpixel((1, 1)) == (255, 255, 255)


def test_an_image_is_loaded_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "in.jpg", exif=exif)
    assert images.load(tmp_path / "in.jpg", any_size).size == (40, 20)
    assert images.geometry(tmp_path / "in.jpg") == (40, 20, 6)


def test_an_invalid_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.new("L", (40, 20)).save(tmp_path / "in.jpg", exif=exif)
    assert images.geometry(tmp_path / "in.jpg") == (40, 20, 1)


def test_the_limit_is_checked_before_an_image_is_decoded(tmp_path: Path) -> None:
    def refuse(width: int, height: int) -> None:
        raise errors.ImageTooLarge(f"{width} by {height}")

    path = tmp_path / "in.png"
    Image.effect_noise((40, 20), 50).save(path)
    path.write_bytes(path.read_bytes()[:200])  # the data after its header is missing
    with pytest.raises(errors.ImageTooLarge, match="40 by 20"):
        images.load(path, refuse)
    with pytest.raises(errors.ImageInvalid):
        images.load(path, any_size)


# Gray of more than 8 bits, turned images, resolutions and profiles


def tiff(
    values: list[int | float], code: str, bits: int, kind: int, order: str = "<", meaning: int = 1
) -> bytes:
    """Returns an uncompressed TIFF of 30 × 20 pixels: `values` are those of paper and of ink.

    `code` is that of `struct`, `kind` the sample format, and `meaning` 0 if 0 is white.
    """
    width, height = 30, 20
    paper, ink = values
    rows = [
        [ink if 5 <= x < 15 and 5 <= y < 15 else paper for x in range(width)] for y in range(height)
    ]
    data = b"".join(struct.pack(f"{order}{width}{code}", *row) for row in rows)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, meaning), (273, 0)]
    tags += [(277, 1), (278, height), (279, len(data)), (339, kind)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, start if tag == 273 else value)
        for tag, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize(
    "content",
    [
        tiff([60000, 5000], "H", 16, 1),
        tiff([60000, 5000], "H", 16, 1, ">"),
        tiff([5000, 60000], "H", 16, 1, "<", 0),
        tiff([30000, -30000], "h", 16, 2),
        tiff([60000, 5000], "I", 32, 1),
        tiff([2_000_000_000, 1000], "I", 32, 1),
        tiff([0.95, 0.05], "f", 32, 3),
        tiff([240.0, 10.0], "f", 32, 3),
    ],
    ids=["16", "16 BE", "16 inverted", "signed", "32", "32 large", "0 to 1", "0 to 255"],
)
def test_paper_and_ink_of_deep_gray_can_be_distinguished(tmp_path: Path, content: bytes) -> None:
    made = seen(page(tmp_path, content, 72)).convert("L")
    (tmp_path / "in.tif").write_bytes(content)
    loaded = images.load(tmp_path / "in.tif", any_size).convert("L")

    for image in (made, loaded):
        assert image.getpixel((10, 10)) < 40
        assert image.getpixel((25, 10)) > 200


def test_an_uncompressed_turned_image_keeps_its_sides(tmp_path: Path) -> None:
    turned = Image.new("L", (60, 40), 255)
    turned.paste(0, (0, 0, 10, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # its left side is the top
    turned.save(tmp_path / "in.tif", exif=exif)

    image = seen(page(tmp_path, (tmp_path / "in.tif").read_bytes(), 72)).convert("L")

    assert image.size == (40, 60)
    assert [image.getpixel((x, 5)) for x in (5, 20, 35)] == [0, 0, 0]
    assert [image.getpixel((x, 30)) for x in (5, 20, 35)] == [255, 255, 255]


@pytest.mark.parametrize(("dpi", "width"), [(300, 360.0), (150, 720.0), (25_400, 841.68)])
def test_the_resolution_of_a_png_is_exact_or_plausible(
    tmp_path: Path, dpi: int, width: float
) -> None:
    content = documents.encoded(Image.new("L", (1500, 800), 255), "PNG", dpi=(dpi, dpi))
    with pikepdf.open(page(tmp_path, content)) as pdf:
        assert float(pdf.pages[0].mediabox[2]) == pytest.approx(width, abs=1e-4)


def test_a_profile_for_other_colors_is_left_out(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gray = documents.encoded(Image.new("L", (30, 20), 200), "PNG", icc_profile=profile)

    with pikepdf.open(page(tmp_path, gray, 72)) as pdf:
        (image,) = pdf.pages[0].get_images().values()
        assert image.ColorSpace == pikepdf.Name.DeviceGray
