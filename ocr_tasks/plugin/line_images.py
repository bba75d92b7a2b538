"""Keeps Tesseract from compressing the image of each text line, a fifth of its time on color pages.

Tesseract writes these images as PNG in memory and reads them again. `scripts/build-line-images`
builds a library from `line_images.c` that writes them uncompressed. Its function has the name of
Leptonica's and is found first if the library is loaded, with global symbols, before Tesseract's.
"""

from __future__ import annotations

import ctypes
import logging
from importlib.machinery import PathFinder

log = logging.getLogger(__name__)

#: Name of the library's file on `sys.path`, without `.so`.
_NAME = "ocr_tasks_line_images"

_PNG = 3  # IFF_PNG in Leptonica's imageio.h

_WIDTH, _HEIGHT, _DEPTH = 61, 17, 32


class Unusable(Exception):
    """The library cannot be used."""


def load() -> ctypes.CDLL | None:
    """Loads the library, which must happen before Tesseract's is loaded; None if it is missing."""
    found = PathFinder.find_spec(_NAME)
    if found is None or found.origin is None:
        log.info("line images are compressed, because %s is not installed", _NAME)
        return None
    try:
        return ctypes.CDLL(found.origin, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        log.warning("line images are compressed: %s", error)
        return None


def connect(library: ctypes.CDLL, tesseract: str) -> None:
    """Connects the library to the Leptonica that Tesseract uses, and checks that it works.

    `tesseract` is the path of an extension module that is linked with Tesseract.
    """
    # A symbol is also searched in the libraries that the module is linked with.
    leptonica = ctypes.CDLL(tesseract)
    functions = ("pixWriteMem", "pixWriteMemSpix", "pixGetDimensions")
    write, write_uncompressed, dimensions = (getattr(leptonica, name, None) for name in functions)
    library.line_images_connect(write, write_uncompressed, dimensions)
    try:
        _check(library, leptonica)
    except (Unusable, AttributeError) as error:
        library.line_images_connect(write, None, None)
        log.warning("line images are compressed: %s", error)
    else:
        log.info("line images are not compressed")


def _check(library: ctypes.CDLL, leptonica: ctypes.CDLL) -> None:
    """Raises Unusable if an image that the library has written does not have the same pixels."""
    for name in ("pixCreate", "pixReadMem", "pixGetData"):
        getattr(leptonica, name).restype = ctypes.c_void_p
    image = ctypes.c_void_p(leptonica.pixCreate(_WIDTH, _HEIGHT, _DEPTH))
    size = _WIDTH * _HEIGHT * _DEPTH // 8
    pixels = bytes(number * number % 251 for number in range(size))
    ctypes.memmove(leptonica.pixGetData(image), pixels, size)
    data, length = ctypes.c_void_p(), ctypes.c_size_t()
    failed = library.pixWriteMem(ctypes.byref(data), ctypes.byref(length), image, _PNG)
    leptonica.pixDestroy(ctypes.byref(image))
    if failed or not data.value:
        raise Unusable("an image cannot be written")
    copy = ctypes.c_void_p(leptonica.pixReadMem(data, length))
    leptonica.lept_free(data)
    if not copy.value:
        raise Unusable("an image cannot be read")
    same = ctypes.string_at(leptonica.pixGetData(copy), size) == pixels
    leptonica.pixDestroy(ctypes.byref(copy))
    if not same:
        raise Unusable("an image has different pixels after it is read")


def written(library: ctypes.CDLL) -> int:
    """Returns the number of images that the library has written uncompressed in this process."""
    count = library.line_images_written
    count.restype = ctypes.c_ulong
    return int(count())
