"""Tesseract in this process: its models stay loaded from one page to the next.

A `tesseract` process per page loads its model anew (0.14 s for one language), and reads the page
from a PNG that had to be deflated first. `tesserocr` gives us the library instead.
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

from ocr_tasks.sandbox import rlimits

# Tesseract's own threads make a page hardly faster and all pages together much slower. OpenMP reads
# this when the library is loaded.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")
try:
    import tesserocr
except ImportError as _error:
    tesserocr = None  # OCRmyPDF's own engine reads then
    logging.getLogger(__name__).warning(
        "tesserocr cannot be loaded, so every page starts a tesseract program: %s", _error
    )

Answer = TypeVar("Answer")

#: Sets of languages whose models stay loaded, in each process.
_MODEL_SETS = 4

#: Seconds that a call may overrun its time limit before it is given up: the layout analysis does
#: not look at the clock.
_GRACE = 5.0

_OSD_ONLY, _AUTO_ONLY, _AUTO = 0, 2, 3
_DEFAULT_OEM = 3


class TimeLimit(Exception):
    """Tesseract took longer than it may."""


class Refused(Exception):
    """Tesseract cannot read such an image."""


@dataclass(frozen=True)
class Model:
    """What has to be loaded: languages, and Tesseract's engine mode (0-3)."""

    languages: tuple[str, ...]
    oem: int | None = None


@dataclass
class Result:
    """What was read: hOCR of the page as an XHTML document, and plain text."""

    hocr: str
    text: str


@dataclass
class _Loaded:
    """The interpreters of one model; as many as threads use it at the same time."""

    idle: list[Any] = field(default_factory=list)


_lock = threading.Lock()
_models: OrderedDict[Model, _Loaded] = OrderedDict()


def available() -> bool:
    return tesserocr is not None


@cache
def version() -> str:
    """Version of the Tesseract library, as in `5.3.0`."""
    return str(tesserocr.tesseract_version()).split()[1]


@cache
def languages() -> frozenset[str]:
    """The languages that are installed."""
    return frozenset(tesserocr.get_languages()[1])


def read(
    image: Image.Image,
    model: Model,
    *,
    pagesegmode: int | None = None,
    thresholding: int = 0,
    seconds: float,
) -> Result:
    """Reads the text of an image.

    Raises:
        TimeLimit: if that takes longer than so many seconds.
        Refused: if the image is too large or of no use.
    """

    def recognize(api: Any) -> Result:
        api.SetPageSegMode(_AUTO if pagesegmode is None else pagesegmode)
        api.SetVariable("thresholding_method", str(thresholding))
        api.ClearAdaptiveClassifier()
        _show(api, image)
        started = time.monotonic()
        if not api.Recognize(int(seconds * 1000)):
            raise TimeLimit if time.monotonic() - started >= seconds else Refused
        return Result(_document(api.GetHOCRText(0)), api.GetUTF8Text())

    return _call(recognize, model, seconds)


def orientation(image: Image.Image, oem: int | None, *, seconds: float) -> tuple[int, float]:
    """How far the image is turned clockwise, in degrees, and how sure that is; (0, 0.0): unknown.

    Raises:
        TimeLimit, Refused
    """

    def detect(api: Any) -> tuple[int, float]:
        api.SetPageSegMode(_OSD_ONLY)
        _show(api, image)
        found = api.DetectOrientationScript()
        # Two digits, as the `tesseract` program prints.
        return (found["orient_deg"], round(found["orient_conf"], 2)) if found else (0, 0.0)

    return _call(detect, Model(("osd",), oem), seconds)


def skew(image: Image.Image, model: Model, *, seconds: float) -> float:
    """The angle by which the lines of text are turned, in radians.

    Raises:
        TimeLimit, Refused
    """

    def analyse(api: Any) -> float:
        api.SetPageSegMode(_AUTO_ONLY)
        _show(api, image)
        layout = api.AnalyseLayout()
        # Four digits, as the `tesseract` program prints.
        return round(float(layout.Orientation()[3]), 4) if layout else 0.0

    return _call(analyse, model, seconds)


def _call(task: Callable[[Any], Answer], model: Model, seconds: float) -> Answer:
    """Runs a task on a loaded interpreter, in a thread that can be left behind.

    Tesseract looks at the clock only while it reads words; what hangs before that cannot be
    stopped, but it must not hold up the document.
    """
    outcome: list[Answer] = []
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
        rlimits.wear_out("a call of Tesseract is left behind, and goes on computing")
        raise TimeLimit
    return outcome[0]


@contextmanager
def _interpreter(model: Model) -> Iterator[Any]:
    """An interpreter for nobody else, with the model loaded."""
    api = _take(model)
    try:
        yield api
    finally:
        api.Clear()
        _give_back(model, api)


def _take(model: Model) -> Any:
    with _lock:
        loaded = _models.setdefault(model, _Loaded())
        _models.move_to_end(model)
        forgotten = [_models.popitem(last=False) for _ in range(len(_models) - _MODEL_SETS)]
        api = loaded.idle.pop() if loaded.idle else None
    for _, old in forgotten:
        for idle in old.idle:
            idle.End()
    return api or _load(model)


def _give_back(model: Model, api: Any) -> None:
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


def _show(api: Any, image: Image.Image) -> None:
    """Hands over the pixels as they are: what the `tesseract` program would find in a PNG."""
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode == "1":
        api.SetImageBytes(image.tobytes(), image.width, image.height, 0, (image.width + 7) // 8)
    else:
        if image.mode == "L":
            pixels, size = image.tobytes(), 1
        else:
            # Four bytes a pixel are taken over faster than three.
            colored = image if image.mode == "RGB" else image.convert("RGB")
            pixels, size = colored.tobytes("raw", "RGBX"), 4
        api.SetImageBytes(pixels, image.width, image.height, size, image.width * size)
    dpi = image.info.get("dpi")
    if dpi:
        api.SetSourceResolution(round(dpi[1]))


def _document(page: str) -> str:
    """An hOCR document around the page that Tesseract gives."""
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
