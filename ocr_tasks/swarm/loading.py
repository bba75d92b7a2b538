"""Loading of collections: adds the images of a folder to the page queue, lists and removes pages.

Pages are processed a few hundred at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Collection as Names
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ocr_tasks import settings
from ocr_tasks.storage import atomic
from ocr_tasks.swarm import collections, queue
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm.collections import Collection
from ocr_tasks.swarm.model import SwarmPage

#: Modes of images that docr/smd's clients can save as JPEG. Other images are converted to PNG.
_PLAIN_MODES = frozenset({"1", "L", "RGB", "CMYK"})

#: Formats that browsers display. Others are converted to PNG with `as_png`.
_FOR_BROWSERS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP"})

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PCX", "PSD")
_DEFAULT_DPI = 300.0

#: What Pillow raises for images that it cannot open.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

#: Pages per call to the queue.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading an image: `registered`, `known`, `read` or an error message.

    `known` images were in the queue already, and `read` ones have a transcript.
    """

    path: Path
    result: str


def load(collection: Collection, endings: Names[str], again: bool = False) -> Iterator[Loaded]:
    """Adds all images of a collection to the page queue, in the order of their paths.

    Skips images that are in the queue and, unless `again` is set, images with a transcript.
    `endings` are lowercase file name extensions without the dot. Yields the result of each image.
    """
    Image.MAX_IMAGE_PIXELS = int(settings.get().max_image_megapixels * 1_000_000)
    waiting: list[tuple[Path, SwarmPage]] = []
    group = ""
    for path in _walk(Path(collection.images), endings):
        try:
            if not again and collection.has_transcript(str(path.relative_to(collection.images))):
                yield Loaded(path, "read")
                continue
            page = _page(collection, path)
        except _UNREADABLE as error:
            yield Loaded(path, f"cannot be loaded: {error}")
            continue
        # `queue.put` takes pages of one group only.
        if len(waiting) == _BATCH or (waiting and page.group != group):
            yield from _put(waiting)
            waiting = []
        group = page.group
        waiting.append((path, page))
    yield from _put(waiting)


def _put(waiting: list[tuple[Path, SwarmPage]]) -> Iterator[Loaded]:
    pages = [page for _, page in waiting]
    for (path, _), added in zip(waiting, queue.put(pages), strict=True):
        yield Loaded(path, "registered" if added else "known")


def _walk(folder: Path, endings: Names[str]) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders, sorted by name. Does not follow links."""
    rows = sorted(os.scandir(folder), key=lambda row: row.name)
    for row in rows:
        if row.is_dir(follow_symlinks=False):
            yield from _walk(Path(row.path), endings)
        elif row.is_file(follow_symlinks=False):
            _, dot, ending = row.name.rpartition(".")
            if dot and ending.lower() in endings:
                yield Path(row.path)


def _page(collection: Collection, path: Path) -> SwarmPage:
    """Returns the page of an image. Images that devices could not open are converted first."""
    name = str(path.relative_to(collection.images))
    if not name.isprintable():
        raise ValueError("the file name contains unprintable characters")
    with Image.open(path, formats=_FORMATS) as image:
        kind = image.format or ""
        dpi = _dpi(image)
        width, height = image.size
        converts = image.mode not in _PLAIN_MODES
        if converts or (collection.as_png and kind not in _FOR_BROWSERS):
            target = collection.converted(name)
            if not target.exists():
                _convert(image, target)
            kind = "PNG"
    return SwarmPage(
        media_type=Image.MIME[kind],
        width=width,
        height=height,
        dpi=dpi,
        languages=collection.languages,
        collection=collection.name,
        name=name,
    )


def _convert(image: Image.Image, target: Path) -> None:
    """Writes a PNG with 8 bits per channel, without transparency and palette."""
    if image.mode in ("I;16", "I", "F"):
        plain = image.point(lambda value: value / 256).convert("L")
    elif image.has_transparency_data:
        over = image.convert("RGBA")
        plain = Image.new("RGB", image.size, "white")
        plain.paste(over, mask=over.getchannel("A"))
    else:
        plain = image if image.mode in _PLAIN_MODES - {"CMYK"} else image.convert("RGB")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(target) as part:
        plain.save(part, "PNG", dpi=image.info.get("dpi", (_DEFAULT_DPI, _DEFAULT_DPI)))


def _dpi(image: Image.Image) -> float:
    try:
        dpi = float(image.info["dpi"][1])
    except (LookupError, TypeError, ValueError):
        return _DEFAULT_DPI
    return dpi if 50 <= dpi <= 2400 else _DEFAULT_DPI


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a collection: its state, the device that has or had it, and reasons of failures."""

    page: SwarmPage
    state: str
    device: str
    failures: int
    reasons: tuple[str, ...]


def pages() -> Iterator[Listed]:
    """Yields all pages of collections, in the order in which they were loaded."""
    start = 0
    while ids := queue.ids(start=start, most=_BATCH):
        start += len(ids)
        for row in queue.states(ids):
            if row:
                yield _listed(row)


def _listed(row: dict[str, str]) -> Listed:
    failures = int(row["failures"])
    reasons = tuple(row.get(f"reason:{number}", "") for number in range(1, failures + 1))
    state, device = row["state"], row.get("device", "")
    return Listed(SwarmPage.from_json(row["page"]), state, device, failures, reasons)


def purge(everything: bool = False) -> int:
    """Removes the pages that have transcripts, or all pages, and returns their number.

    Keeps images and transcripts; deletes converted images.
    """
    count = 0
    while ids := queue.ids(None if everything else "done", most=_BATCH):
        for page_id, row in zip(ids, queue.states(ids), strict=True):
            count += queue.remove(page_id, even_done=True)
            if row:
                _drop_copies(SwarmPage.from_json(row["page"]))
    return count


def _drop_copies(page: SwarmPage) -> None:
    with suppress(swarm_errors.PageWithdrawn, OSError):
        collection = collections.get(page.collection)
        collection.converted(page.name).unlink(missing_ok=True)
        collection.readings(page.name).unlink(missing_ok=True)


def wait_again() -> int:
    """Adds the pages that failed too often to the queue again, and returns their number."""
    count = 0
    while ids := queue.ids("aside", most=_BATCH):
        rows = queue.states(ids)
        for page_id, row in zip(ids, rows, strict=True):
            queue.remove(page_id, even_done=True)
            if row:
                count += sum(queue.put([SwarmPage.from_json(row["page"])]))
    return count


__all__ = ["Listed", "Loaded", "load", "pages", "purge", "wait_again"]
