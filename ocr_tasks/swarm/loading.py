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

from PIL import Image, ImageOps, UnidentifiedImageError

from ocr_tasks import settings
from ocr_tasks.storage import atomic
from ocr_tasks.swarm import collections, queue, transcripts
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm.collections import Collection
from ocr_tasks.swarm.model import SwarmPage
from ocr_tasks.uploads import images

#: Modes of images that docr/smd's clients can save as JPEG. Other images are converted to PNG.
_PLAIN_MODES = frozenset({"1", "L", "RGB", "CMYK"})

#: Media types that browsers display. Others are converted to PNG with `as_png`.
_FOR_BROWSERS = frozenset({f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "bmp")})

#: Formats of files that can contain several pages.
_MANY_PAGES = frozenset({"TIFF", "GIF", "WEBP"})

#: The EXIF entry of an image's orientation, and the value of upright images.
_ORIENTATION, _UPRIGHT = 0x0112, 1

#: TIFF's tag for kinds of images, and its bit for thumbnails of others.
_SUBFILE_TYPE, _THUMBNAIL = 254, 1

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PCX", "PSD")
_DEFAULT_DPI = 300.0

#: What Pillow raises for images that it cannot open.
_UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError)

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
    `endings` are lowercase file name extensions without the dot. Yields the result of each image;
    each page of a file with several is an image.
    """
    Image.MAX_IMAGE_PIXELS = int(settings.get().max_image_megapixels * 1_000_000)
    waiting: list[tuple[Path, SwarmPage]] = []
    group = ""
    for path in _walk(Path(collection.images), endings):
        name = str(path.relative_to(collection.images))
        if not again and collection.has_transcript(name):
            yield Loaded(path, "read")
            continue
        try:
            # All pages of a file are converted before one of them can be finished.
            pages = list(_pages(collection, path, name, again))
        except _UNREADABLE as error:
            known = not isinstance(error, UnidentifiedImageError)
            reason = error if known else "the format is not supported, or the file is damaged"
            yield Loaded(path, f"cannot be loaded: {reason}")
            continue
        for own, page in pages:
            place = Path(collection.images, own)
            if page is None:
                yield Loaded(place, "read")
                continue
            # `queue.put` takes pages of one group only.
            if len(waiting) == _BATCH or (waiting and page.group != group):
                yield from _put(waiting)
                waiting = []
            group = page.group
            waiting.append((place, page))
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


def _pages(
    collection: Collection, path: Path, name: str, again: bool
) -> Iterator[tuple[str, SwarmPage | None]]:
    """Yields the pages of an image file with their names; see `_page`.

    Pages of a file with several that have a transcript are None, unless `again` is set.
    """
    if not name.isprintable():
        raise ValueError("the file name contains unprintable characters")
    # From a path, Pillow maps uncompressed TIFF to memory, and swaps the sides of rotated images.
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        frames = _frames(image)
        if len(frames) == 1:
            image.seek(frames[0])
            yield name, _page(collection, image, name)
            return
        for number, frame in enumerate(frames, start=1):
            own = collections.page_of(name, number)
            if not again and collection.has_transcript(own):
                yield own, None
                continue
            image.seek(frame)
            yield own, _page(collection, image, own)


def _frames(image: Image.Image) -> list[int]:
    """Returns the positions of the pages in a file, without thumbnails of other pages."""
    if image.format not in _MANY_PAGES:
        return [0]
    found = []
    for frame in range(getattr(image, "n_frames", 1)):
        image.seek(frame)
        if not getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0) & _THUMBNAIL:
            found.append(frame)
    return found or [0]


def _page(collection: Collection, image: Image.Image, name: str) -> SwarmPage:
    """Returns the page of an open image.

    Images that devices could not open, or would process in another orientation, are converted
    first, and so are images of files with several.
    """
    kind = image.format or ""
    dpi = _dpi(image)
    width, height = image.size
    if (
        image.mode not in _PLAIN_MODES
        or image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
        or (kind in _MANY_PAGES and getattr(image, "n_frames", 1) > 1)
        or (collection.as_png and images.FORMATS.get(kind) not in _FOR_BROWSERS)
    ):
        kind = "PNG"
        target = collection.converted(name)
        if not target.exists():
            _convert(image, target)
        with Image.open(target) as converted:
            width, height = converted.size
    return SwarmPage(
        media_type=images.FORMATS.get(kind) or Image.MIME[kind],
        width=width,
        height=height,
        dpi=dpi,
        languages=collection.languages,
        collection=collection.name,
        name=name,
    )


def _convert(image: Image.Image, target: Path) -> None:
    """Writes an upright PNG with 8 bits per channel, without transparency and palette."""
    image.load()
    dpi = image.info.get("dpi", (_DEFAULT_DPI, _DEFAULT_DPI))
    plain = ImageOps.exif_transpose(images.convert_for_ocr(image))
    if plain.mode == "P":
        plain = plain.convert("RGB")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(target) as part:
        plain.save(part, "PNG", dpi=dpi)


def _dpi(image: Image.Image) -> float:
    try:
        dpi = float(image.info["dpi"][1])
    except (LookupError, TypeError, ValueError):
        return _DEFAULT_DPI
    return dpi if 50 <= dpi <= 2400 else _DEFAULT_DPI


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a collection: its state and reasons of failures.

    `device` has leased it now. `transcribed_by` is the device whose transcript is stored; if the
    page is not done, another client will check it.
    """

    page: SwarmPage
    state: str
    device: str
    transcribed_by: str
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
    return Listed(
        page=SwarmPage.from_json(row["page"]),
        state=row["state"],
        device=row.get("device", ""),
        transcribed_by=row.get("transcribed_by", ""),
        failures=failures,
        reasons=reasons,
    )


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
        count += sum(map(queue.requeue, ids))
    return count


def is_of(device: str, name: str) -> bool:
    """Returns whether a device has a name, or belongs to the client with that name."""
    return device == name or device.startswith(f"{name}/")


def requeue(name: str) -> Iterator[tuple[SwarmPage, bool]]:
    """Makes the pages wait again that a device has or had, or the devices of a client.

    Their transcripts stay until others replace them. Yields each page, and False if it cannot be
    processed again because its image was deleted.
    """
    for row in pages():
        with suppress(swarm_errors.PageWithdrawn):
            collection = collections.get(row.page.collection)
            readings = collection.readings(row.page.name)
            found = {row.device, row.transcribed_by, *transcripts.compared_devices(readings)}
            if not any(is_of(device, name) for device in found):
                continue
            exists = collection.served(row.page.name).exists()
            if exists:
                readings.unlink(missing_ok=True)
                queue.requeue(row.page.id)
            yield row.page, exists


__all__ = ["Listed", "Loaded", "is_of", "load", "pages", "purge", "requeue", "wait_again"]
