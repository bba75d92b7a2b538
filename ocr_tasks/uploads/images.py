"""Converts images to PDF pages, without recompressing formats that PDF can embed."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import img2pdf
import pi_heif
from PIL import Image, ImageOps, ImageSequence, TiffImagePlugin, UnidentifiedImageError

from ocr_tasks import errors

log = logging.getLogger(__name__)

#: The supported formats by Pillow's names, with their media types.
FORMATS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG followed by other views, from phones
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "HEIF": "image/heic",
    "AVIF": "image/avif",
    "JPEG2000": "image/jp2",
}
#: Formats that img2pdf embeds unchanged.
_AS_IS = {"JPEG", "MPO", "PNG", "JPEG2000"}
#: Formats of photographs, which would become huge with lossless compression.
_LOSSY = {"HEIF", "AVIF"}
_MANY_FRAMES = {"TIFF", "GIF", "WEBP"}

#: The first bytes of the formats. In some, other bytes come before them.
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG|II[*+]\0|MM\0[*+]|RIFF....WEBP|GIF8|BM|....ftyp(hei|hev|mif1|avi)"
    rb"|....jP  |\xff\x4f\xff\x51",
    re.DOTALL,
)

_EXIF_ORIENTATION = 0x0112
#: TIFF's tags for the compression and the meaning of gray values, and the value for inverted ones.
_PHOTOMETRIC = 262
_COMPRESSION = 259
_MIN_IS_WHITE = 0
_MIRRORED = {2, 4, 5, 7}
_A4_LONG_SIDE_INCHES = 11.69
#: Resolutions above that of any scanner are errors.
_MOST_DPI = 9600
#: Half a pixel per meter, in DPI.
_PNG_ERROR_DPI = 0.0128
_JPEG_QUALITY = 95

pi_heif.register_heif_opener()


def to_pdfs(
    path: Path, image_dpi: int | None, check_pixels: Callable[[int, int], None], most: int
) -> Iterator[tuple[str, Path]]:
    """Converts each picture of a file to a PDF of one page. Yields media types and PDF paths.

    `image_dpi` overrides the resolution in the file. `check_pixels` is called with width and height
    before anything is decoded. `most` is the maximum number of pictures.
    """
    with _open(path) as image:
        media_type = FORMATS[image.format or ""]
        check_pixels(*image.size)
        _check_number(image, most)
        for number, source in enumerate(_pictures(path, image, check_pixels), start=1):
            dpi = _resolution(image, image_dpi)
            part = path.with_name(f"{path.name}-{number:06d}.pdf")
            _write_page(image, source, dpi, part)
            yield media_type, part


def load(path: Path, check_pixels: Callable[[int, int], None]) -> Image.Image:
    """Decodes the first picture of a file, with a white background. Ignores EXIF orientation.

    Its mode is 1, L, P or RGB. `info["dpi"]` is the resolution in the file, if there is one.
    """
    with _open(path) as image:
        check_pixels(*image.size)
        image.load()
        converted = convert_for_ocr(image)
        if "dpi" in image.info:
            converted.info["dpi"] = image.info["dpi"]
        return converted


def geometry(path: Path) -> tuple[int, int, int]:
    """Returns width, height and EXIF orientation of the first picture, without decoding it.

    Width and height are those of the stored image, in pixels. The orientation is 1 if not set.
    """
    with _open(path) as image:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        return *image.size, orientation if orientation in range(1, 9) else 1


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    Image.MAX_IMAGE_PIXELS = None  # `check_pixels` enforces the limit
    formats = [name for name in FORMATS if name != "MPO"]
    # From a path, Pillow maps uncompressed images to memory, and swaps the sides of turned ones.
    with path.open("rb") as file, _convert_errors(path), Image.open(file, formats=formats) as image:
        yield image


@contextmanager
def _convert_errors(path: Path) -> Iterator[None]:
    """Converts all exceptions of decoders to errors for clients, except for system errors."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise _unidentified(path) from error
    except (errors.OcrTasksError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise errors.ImageInvalid() from error


def _unidentified(path: Path) -> errors.OcrTasksError:
    """Returns the error for a file that Pillow cannot identify."""
    with path.open("rb") as file:
        head = file.read(16)
        if not _SIGNATURES.match(head):
            return errors.UnsupportedType()
        if not head.startswith((b"II", b"MM")):
            return errors.ImageInvalid()
        with suppress(Exception):  # any error means that the tags are damaged
            file.seek(0)
            tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
            if tags.get(_COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO:
                return errors.TiffCompressionUnsupported()
    return errors.ImageInvalid()


def _check_number(image: Image.Image, most: int) -> None:
    if _has_more(image, most):
        raise errors.TooManyPages(f"The file has more than {most} images", limit=most)


def _has_more(image: Image.Image, most: int) -> bool:
    """Returns whether a file has more than `most` pictures, without counting all of a TIFF file."""
    if image.format not in _MANY_FRAMES:
        return most < 1
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1)) > most
    try:
        image.seek(most)
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


def _pictures(
    path: Path, image: Image.Image, check_pixels: Callable[[int, int], None]
) -> Iterator[bytes | Path]:
    """Yields each picture in a form that img2pdf embeds: the file itself, or encoded bytes."""
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    is_alien = _has_alien_profile(image)
    as_is = orientation not in _MIRRORED and not _has_alpha(image) and not is_alien
    if image.format == "JPEG2000":
        image.load()  # no program shows anything of a damaged one
    if image.format in _AS_IS and as_is:
        yield path
        return
    if is_alien:
        del image.info["icc_profile"]
    lossy = _is_lossy(path, image)
    frames = ImageSequence.Iterator(image) if image.format in _MANY_FRAMES else [image]
    for frame in frames:
        check_pixels(*frame.size)
        is_inverted = _is_inverted(frame)  # Pillow forgets it in the next step
        yield _encode(ImageOps.exif_transpose(frame), lossy, is_inverted)


def _is_inverted(image: Image.Image) -> bool:
    """Returns whether 0 is white in gray of more than 8 bits; Pillow converts other images."""
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return deep and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _MIN_IS_WHITE


def _has_alien_profile(image: Image.Image) -> bool:
    """Returns whether a PNG has a color profile for another kind of colors."""
    profile: bytes = image.info.get("icc_profile") or b""
    wanted = {"1": b"GRAY", "L": b"GRAY", "I;16": b"GRAY", "RGB": b"RGB ", "P": b"RGB "}
    space = profile[16:20]  # ICC.1:2022, 7.2
    return image.format == "PNG" and bool(space) and wanted.get(image.mode, space) != space


def _has_alpha(image: Image.Image) -> bool:
    return image.has_transparency_data


def _encode(frame: Image.Image, lossy: bool, is_inverted: bool) -> bytes:
    buffer = io.BytesIO()
    frame = _on_white(frame)
    if frame.mode == "1":
        frame.save(buffer, "TIFF", compression="group4")
        return buffer.getvalue()
    frame = _gray(frame, is_inverted)
    if frame.mode not in ("L", "RGB", "P", "I;16"):
        frame = frame.convert("L" if frame.mode == "LA" else "RGB")
    if frame.mode == "RGB" and lossy:
        profile: bytes = frame.info.get("icc_profile") or b""
        kept = profile if profile[16:20] == b"RGB " else None  # ICC.1:2022, 7.2
        frame.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, icc_profile=kept)
    else:
        frame.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _on_white(frame: Image.Image) -> Image.Image:
    if not frame.has_transparency_data:
        return frame
    background = Image.new("RGBA", frame.size, "white")
    return Image.alpha_composite(background, frame.convert("RGBA")).convert("RGB")


def convert_for_ocr(frame: Image.Image) -> Image.Image:
    """Returns a decoded picture with a white background, in the mode 1, L, P or RGB."""
    frame = _on_white(frame)
    frame = _gray(frame, _is_inverted(frame))
    if frame.mode in ("1", "L", "P", "RGB"):
        return frame
    if frame.mode == "I;16":
        return _in_8_bits(frame, 256, 0)
    return frame.convert("L" if frame.mode == "LA" else "RGB")


def _gray(frame: Image.Image, is_inverted: bool) -> Image.Image:
    """Converts gray of more than 8 bits to 8 bits, except for the one form that PNG has.

    The range of the values is that of 8 or 16 bits or from 0 to 1 if they fit, otherwise their own.
    """
    if frame.mode == "I;16" and not is_inverted:
        return frame
    if frame.mode not in ("I", "F") and not frame.mode.startswith("I;16"):
        return frame
    low, high = cast("tuple[float, float]", frame.convert("F").getextrema())
    if low >= 0 and high <= 1 and frame.mode == "F":
        frame = _in_8_bits(frame, 1 / 255, 0)
    elif low >= 0 and high <= 255 and not frame.mode.startswith("I;16"):
        frame = _in_8_bits(frame, 1, 0)
    elif low >= 0 and high <= 65535:
        frame = _in_8_bits(frame, 256, 0)
    else:
        frame = _in_8_bits(frame, (high - low) / 255, low)
    return ImageOps.invert(frame) if is_inverted else frame


def _in_8_bits(frame: Image.Image, step: float, low: float) -> Image.Image:
    """Returns `(value - low) / step` of each pixel as a grayscale image."""
    return frame.convert("F").point(lambda value: value * (1 / step) - low / step).convert("L")


def _is_lossy(path: Path, image: Image.Image) -> bool:
    if image.format != "WEBP":
        return image.format in _LOSSY
    # A lossless picture has a chunk named VP8L (RFC 9649, 2.6).
    with path.open("rb") as file:
        return b"VP8L" not in file.read(64)


def _resolution(image: Image.Image, requested: int | None) -> tuple[float, float]:
    """Returns the horizontal and vertical resolution in DPI.

    The requested resolution is used first, then that of the file if it is plausible, then one with
    which the longer side is that of A4. Many programs write 72 or 96 if they do not know the
    resolution; such values are used only if the page is then at most 24 inches long.
    """
    if requested:
        return float(requested), float(requested)
    longest = max(image.size)
    stated = image.info.get("dpi")
    if stated and all(0 < float(value) <= _MOST_DPI for value in stated):
        across, down = (_without_error(float(value)) for value in stated)
        inches = longest / max(across, down)
        if (across >= 150 and inches <= 100) or (across >= 70 and 1 <= inches <= 24):
            return across, down
    estimate = min(600.0, max(100.0, longest / _A4_LONG_SIDE_INCHES))
    return estimate, estimate


def _without_error(dpi: float) -> float:
    """Returns the resolution that was meant: PNG stores 300 DPI as 11811 pixels per meter."""
    return float(round(dpi)) if abs(dpi - round(dpi)) <= _PNG_ERROR_DPI else dpi


def _write_page(
    image: Image.Image, source: bytes | Path, dpi: tuple[float, float], part: Path
) -> None:
    """Writes a PDF with one picture of a file. The file itself is encoded again if necessary."""
    try:
        _embed(source, dpi, part)
    except Exception as error:  # img2pdf has no error of its own, e.g. for JPEG 2000 with a profile
        if isinstance(source, bytes) or isinstance(error, MemoryError):
            raise
        log.info("an image cannot be embedded as it is: %s", error)
        lossy = image.format != "PNG"
        _embed(_encode(ImageOps.exif_transpose(image), lossy, False), dpi, part)


def _embed(source: bytes | Path, dpi: tuple[float, float], part: Path) -> None:
    with part.open("wb") as file:
        img2pdf.convert(
            str(source) if isinstance(source, Path) else source,
            layout_fun=img2pdf.get_fixed_dpi_layout_fun(dpi),
            outputstream=file,
            engine=img2pdf.Engine.pikepdf,
            rotation=img2pdf.Rotation.ifvalid,
            first_frame_only=True,
        )
