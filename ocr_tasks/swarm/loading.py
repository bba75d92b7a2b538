"""Has the images of a folder wait for devices, and forgets those that are done.

Pages are taken a few hundred at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Collection as Names
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ocr_tasks import errors, settings
from ocr_tasks.storage import atomic
from ocr_tasks.swarm import collections, queue
from ocr_tasks.swarm.collections import Collection
from ocr_tasks.swarm.model import SwarmPage

#: What docr/smd's clients can save as JPEG, and so take as it is.
_PLAIN_MODES = frozenset({"1", "L", "RGB", "CMYK"})

#: What browsers show as well; the others become PNG with `as_png`.
_FOR_BROWSERS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "BMP"})

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PCX", "PSD")
_DEFAULT_DPI = 300.0

#: What Pillow raises for images that it cannot read.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

#: Pages that are put into the queue together.
_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that was looked at: `registered`, `known`, `read` before, or why it cannot be."""

    path: Path
    result: str


def load(collection: Collection, endings: Names[str], again: bool = False) -> Iterator[Loaded]:
    """Has all images of a collection wait, in the folders' order.

    Those that are known are skipped, and unless `again` those that have a transcript. `endings` are
    endings of names without the dot, in small letters.
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
            yield Loaded(path, f"cannot be read: {error}")
            continue
        # What is put together must be of one group.
        if len(waiting) == _TOGETHER or (waiting and page.group != group):
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
    """The files of a folder and the folders in it, by name; links are not followed."""
    rows = sorted(os.scandir(folder), key=lambda row: row.name)
    for row in rows:
        if row.is_dir(follow_symlinks=False):
            yield from _walk(Path(row.path), endings)
        elif row.is_file(follow_symlinks=False):
            _, dot, ending = row.name.rpartition(".")
            if dot and ending.lower() in endings:
                yield Path(row.path)


def _page(collection: Collection, path: Path) -> SwarmPage:
    """The page of an image; one that devices could not open is converted first."""
    name = str(path.relative_to(collection.images))
    if not name.isprintable():
        raise ValueError("the name has characters that cannot be printed")
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
    """Writes an image with 8 bits a channel, without transparency or a palette, as PNG."""
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
    """What is known of a page of a collection."""

    page: SwarmPage
    state: str
    device: str
    failures: int
    reasons: tuple[str, ...]


def pages() -> Iterator[Listed]:
    """All pages of collections, in the order of their loading."""
    start = 0
    while ids := queue.ids(start=start, most=_TOGETHER):
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
    """Forgets the pages that have transcripts, or all; gives their number.

    Images and transcripts stay; copies of ours in other formats go.
    """
    count = 0
    while ids := queue.ids(None if everything else "done", most=_TOGETHER):
        for page_id, row in zip(ids, queue.states(ids), strict=True):
            count += queue.remove(page_id, even_done=True)
            if row:
                _drop_copies(SwarmPage.from_json(row["page"]))
    return count


def _drop_copies(page: SwarmPage) -> None:
    with suppress(errors.PageWithdrawn, OSError):
        collection = collections.get(page.collection)
        collection.converted(page.name).unlink(missing_ok=True)
        collection.readings(page.name).unlink(missing_ok=True)


def wait_again() -> int:
    """Has the pages that were set aside wait once more; gives their number."""
    count = 0
    while ids := queue.ids("aside", most=_TOGETHER):
        rows = queue.states(ids)
        for page_id, row in zip(ids, rows, strict=True):
            queue.remove(page_id, even_done=True)
            if row:
                count += sum(queue.put([SwarmPage.from_json(row["page"])]))
    return count


__all__ = ["Listed", "Loaded", "load", "pages", "purge", "wait_again"]
