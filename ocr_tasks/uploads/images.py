"""Converts images to PDF pages, without recompressing formats that PDF can embed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import img2pdf
import pi_heif
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ocr_tasks import errors

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
    "JPEG2000": "image/jp2",
}
#: Formats that img2pdf embeds unchanged.
_AS_IS = {"JPEG", "MPO", "PNG", "JPEG2000"}
#: Formats of photographs, which would become huge with lossless compression.
_LOSSY = {"HEIF"}
_MANY_FRAMES = {"TIFF", "GIF", "WEBP"}

_EXIF_ORIENTATION = 0x0112
_MIRRORED = {2, 4, 5, 7}
_A4_LONG_SIDE_INCHES = 11.69
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
            with part.open("wb") as file:
                _write_page(source, dpi, file)
            yield media_type, part


def load(path: Path, check_pixels: Callable[[int, int], None]) -> Image.Image:
    """Decodes the first picture of a file, with a white background. Ignores EXIF orientation.

    Its mode is 1, L, P or RGB. `info["dpi"]` is the resolution in the file, if there is one.
    """
    with _open(path) as image:
        check_pixels(*image.size)
        image.load()
        converted = _convert_for_ocr(image)
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
    with _convert_errors(), Image.open(path, formats=formats) as image:
        yield image


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Converts all exceptions of decoders to errors for clients, except for system errors."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise errors.UnsupportedType() from error
    except (errors.OcrTasksError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise errors.ImageInvalid() from error


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
    if image.format in _AS_IS and orientation not in _MIRRORED and not _has_alpha(image):
        yield path
        return
    lossy = image.format in _LOSSY or (image.format == "WEBP" and not _is_lossless_webp(path))
    frames = ImageSequence.Iterator(image) if image.format in _MANY_FRAMES else [image]
    for frame in frames:
        check_pixels(*frame.size)
        yield _encode(ImageOps.exif_transpose(frame), lossy)


def _has_alpha(image: Image.Image) -> bool:
    return image.has_transparency_data


def _encode(frame: Image.Image, lossy: bool) -> bytes:
    buffer = io.BytesIO()
    frame = _on_white(frame)
    if frame.mode == "1":
        frame.save(buffer, "TIFF", compression="group4")
        return buffer.getvalue()
    if frame.mode not in ("L", "RGB", "P", "I;16"):
        frame = frame.convert("L" if frame.mode in ("LA", "I", "F") else "RGB")
    if frame.mode == "RGB" and lossy:
        frame.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        frame.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _on_white(frame: Image.Image) -> Image.Image:
    if not frame.has_transparency_data:
        return frame
    background = Image.new("RGBA", frame.size, "white")
    return Image.alpha_composite(background, frame.convert("RGBA")).convert("RGB")


def _convert_for_ocr(frame: Image.Image) -> Image.Image:
    frame = _on_white(frame)
    if frame.mode in ("1", "L", "P", "RGB"):
        return frame
    if frame.mode.startswith("I"):  # 16 bits of gray, of which 8 are enough for OCR
        return frame.convert("F").point(lambda value: value / 256).convert("L")
    return frame.convert("L" if frame.mode in ("LA", "F") else "RGB")


def _is_lossless_webp(path: Path) -> bool:
    # A lossless picture has a chunk named VP8L (RFC 9649, 2.6).
    with path.open("rb") as file:
        return b"VP8L" in file.read(64)


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
    if stated and all(float(value) > 0 for value in stated):
        across, down = (float(value) for value in stated)
        inches = longest / max(across, down)
        if (across >= 150 and inches <= 100) or (across >= 70 and 1 <= inches <= 24):
            return across, down
    estimate = min(600.0, max(100.0, longest / _A4_LONG_SIDE_INCHES))
    return estimate, estimate


def _write_page(source: bytes | Path, dpi: tuple[float, float], file: io.BufferedWriter) -> None:
    img2pdf.convert(
        str(source) if isinstance(source, Path) else source,
        layout_fun=img2pdf.get_fixed_dpi_layout_fun(dpi),
        outputstream=file,
        engine=img2pdf.Engine.pikepdf,
        rotation=img2pdf.Rotation.ifvalid,
        first_frame_only=True,
    )
