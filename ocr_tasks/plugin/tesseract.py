"""Tesseract as a library in this process (`tesserocr`), with models that stay loaded.

The `tesseract` program loads its model for each page, which takes 0.14 s for one language, and
needs the page as a file.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from PIL import Image

from ocr_tasks.plugin import line_images
from ocr_tasks.sandbox import rlimits

# Tesseract's own threads hardly speed up one page and slow down all pages together. OpenMP reads
# this variable when the library is loaded.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")
_line_images = line_images.load()
try:
    import tesserocr
except ImportError as _error:
    tesserocr = None  # OCRmyPDF's own engine is used instead
    logging.getLogger(__name__).warning(
        "cannot load tesserocr, starting a tesseract process for each page instead: %s", _error
    )
else:
    if _line_images:
        line_images.connect(_line_images, tesserocr.tesserocr.__file__)

_T = TypeVar("_T")

#: Number of models (sets of languages) that stay loaded in each process.
_MODEL_SETS = 4

#: Seconds by which a call may exceed its time limit before its thread is abandoned. Tesseract does
#: not check the limit during layout analysis.
_GRACE = 5.0

_OSD_ONLY, _AUTO_ONLY, _AUTO = 0, 2, 3
_DEFAULT_OEM = 3


class TimeLimit(Exception):
    """Tesseract exceeded its time limit."""


class Refused(Exception):
    """Tesseract rejected the image or cannot load the model."""


@dataclass(frozen=True)
class Model:
    """A model of Tesseract: its languages, and the engine mode (0-3; None is the default)."""

    languages: tuple[str, ...]
    oem: int | None = None


@dataclass
class Result:
    """The result of OCR: the page's hOCR as an XHTML document, and its plain text."""

    hocr: str
    text: str


@dataclass
class _Loaded:
    """The idle interpreters of one model. Each thread that uses the model needs its own."""

    idle: list[Any] = field(default_factory=list)


_lock = threading.Lock()
_models: OrderedDict[Model, _Loaded] = OrderedDict()


def available() -> bool:
    """Returns whether the library is loaded."""
    return tesserocr is not None


@cache
def version() -> str:
    """Returns the version of the Tesseract library, e.g. `5.3.0`."""
    return str(tesserocr.tesseract_version()).split()[1]


@cache
def languages() -> frozenset[str]:
    """Returns the installed languages."""
    return frozenset(tesserocr.get_languages()[1])


def read(
    image: Image.Image,
    model: Model,
    *,
    pagesegmode: int | None = None,
    thresholding: int = 0,
    seconds: float,
) -> Result:
    """Runs OCR on an image.

    Raises:
        TimeLimit: if it takes longer than `seconds`.
        Refused: if the image is too large or otherwise unsuitable.
    """

    def recognize(api: Any) -> Result:
        api.SetPageSegMode(_AUTO if pagesegmode is None else pagesegmode)
        api.SetVariable("thresholding_method", str(thresholding))
        api.ClearAdaptiveClassifier()
        _set_image(api, image)
        started = time.monotonic()
        if not api.Recognize(int(seconds * 1000)):
            raise TimeLimit if time.monotonic() - started >= seconds else Refused
        return Result(_document(api.GetHOCRText(0)), api.GetUTF8Text())

    return _call(recognize, model, seconds)


def orientation(image: Image.Image, oem: int | None, *, seconds: float) -> tuple[int, float]:
    """Returns the clockwise rotation of an image in degrees and its confidence.

    Returns (0, 0.0) if the rotation is unknown.

    Raises:
        TimeLimit: if it takes longer than `seconds`.
        Refused: if the image is unsuitable.
    """

    def detect(api: Any) -> tuple[int, float]:
        api.SetPageSegMode(_OSD_ONLY)
        _set_image(api, image)
        result = api.DetectOrientationScript()
        # Two digits, like the output of the `tesseract` program.
        return (result["orient_deg"], round(result["orient_conf"], 2)) if result else (0, 0.0)

    return _call(detect, Model(("osd",), oem), seconds)


def skew(image: Image.Image, model: Model, *, seconds: float) -> float:
    """Returns the skew of the lines of text, in radians.

    Raises:
        TimeLimit: if it takes longer than `seconds`.
        Refused: if the image is unsuitable.
    """

    def analyze(api: Any) -> float:
        api.SetPageSegMode(_AUTO_ONLY)
        _set_image(api, image)
        layout = api.AnalyseLayout()
        # Four digits, like the output of the `tesseract` program.
        return round(float(layout.Orientation()[3]), 4) if layout else 0.0

    return _call(analyze, model, seconds)


def _call(task: Callable[[Any], _T], model: Model, seconds: float) -> _T:
    """Runs a task on a loaded interpreter, in a thread that can be abandoned.

    Tesseract checks its time limit only while it recognizes words. A layout analysis that hangs
    cannot be stopped, but must not block the document.
    """
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with _interpreter(model) as api:
                outcome.append(task(api))
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="tesseract", daemon=True)
    thread.start()
    thread.join(seconds + _GRACE)
    if failure:
        raise failure[0]
    if not outcome:
        rlimits.mark_for_replacement("an abandoned call of Tesseract is still running")
        raise TimeLimit
    return outcome[0]


@contextmanager
def _interpreter(model: Model) -> Iterator[Any]:
    """Provides an interpreter with the model loaded, for exclusive use."""
    api = _acquire(model)
    try:
        yield api
    finally:
        api.Clear()
        _release(model, api)


def _acquire(model: Model) -> Any:
    with _lock:
        loaded = _models.setdefault(model, _Loaded())
        _models.move_to_end(model)
        evicted = [_models.popitem(last=False) for _ in range(len(_models) - _MODEL_SETS)]
        api = loaded.idle.pop() if loaded.idle else None
    for _, old in evicted:
        for idle in old.idle:
            idle.End()
    return api or _load(model)


def _release(model: Model, api: Any) -> None:
    with _lock:
        loaded = _models.get(model)
        if loaded is not None:
            loaded.idle.append(api)
            return
    api.End()


def _load(model: Model) -> Any:
    oem = _DEFAULT_OEM if model.oem is None else model.oem
    try:
        return tesserocr.PyTessBaseAPI(lang="+".join(model.languages) or "eng", oem=oem)
    except RuntimeError as error:
        raise Refused(f"Tesseract cannot load {'+'.join(model.languages)}: {error}") from error


def _set_image(api: Any, image: Image.Image) -> None:
    """Passes the image to Tesseract, with the pixels that the `tesseract` program would load."""
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode == "1":
        api.SetImageBytes(image.tobytes(), image.width, image.height, 0, (image.width + 7) // 8)
    else:
        if image.mode == "L":
            pixels, size = image.tobytes(), 1
        else:
            # Tesseract copies four bytes per pixel faster than three.
            colored = image if image.mode == "RGB" else image.convert("RGB")
            pixels, size = colored.tobytes("raw", "RGBX"), 4
        api.SetImageBytes(pixels, image.width, image.height, size, image.width * size)
    dpi = image.info.get("dpi")
    if dpi:
        api.SetSourceResolution(round(dpi[1]))


def _document(page: str) -> str:
    """Returns an hOCR document with the page that Tesseract returned."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"'
        ' "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        "<head>\n<title></title>\n"
        '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="tesseract {version()}"/>\n'
        '<meta name="ocr-capabilities"'
        ' content="ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"/>\n'
        f"</head>\n<body>\n{page}</body>\n</html>\n"
    )
