"""Collections: folders of page images, whose transcripts are stored in the same folder structure.

    swarm/collections/<name>.json   the folders of images and transcripts, and options
          transcripts/<name>/…      the transcripts, unless another folder was chosen
          readings/<name>/…         transcripts of pages that are being cross-checked
          images/<name>/…           images that were converted, and pages of files with several

These paths are relative to the data folder. An administrator creates collections on this machine
(`loading`). Redis contains only the names of collections and pages, so paths do not depend on data
in Redis.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ocr_tasks import settings
from ocr_tasks.storage import atomic
from ocr_tasks.swarm import errors as swarm_errors

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class CollectionError(Exception):
    """A collection cannot be loaded or created; the message says why."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder of images, the folder of their transcripts, and how they are processed.

    `languages` are Tesseract's names. With `delete_images`, an image is deleted once its transcript
    is stored. With `as_png`, images that browsers cannot display are converted to PNG.
    """

    name: str
    images: str
    transcripts: str
    languages: tuple[str, ...]
    delete_images: bool = False
    as_png: bool = False

    def image(self, page: str) -> Path:
        """Returns the path of a page's image in the collection. `page` is relative to `images`."""
        return _inside(Path(self.images), page)

    def converted(self, page: str) -> Path:
        """Returns the path of the converted image of a page, which may not exist."""
        return _inside(_folder("images", self.name), f"{page}.png")

    def served(self, page: str) -> Path:
        """Returns the path of the image that devices receive."""
        converted = self.converted(page)
        return converted if converted.exists() else self.image(page)

    def delete_image(self, page: str) -> None:
        """Deletes the image of a page; a file with several pages with the last of its pages."""
        converted = self.converted(page)
        with suppress(OSError):
            converted.unlink()
        file = file_of(page)
        with suppress(OSError):
            if file != page:
                converted.parent.rmdir()  # fails as long as it contains other pages
            self.image(file).unlink()

    def transcript(self, page: str) -> Path:
        """Returns the path of a page's transcript: `a.txt` for `a.jpg`.

        It is `a.jpg.txt` if another image in the folder differs only in its extension.
        """
        image = self.image(page)
        extensions = {*_EXTENSIONS, *map(str.upper, _EXTENSIONS)} - {image.suffix}
        has_twin = any(image.with_suffix(extension).exists() for extension in extensions)
        return self._transcripts(page)[has_twin]

    def has_transcript(self, page: str) -> bool:
        """Returns whether the transcript of a page is stored."""
        return any(path.exists() for path in self._transcripts(page)) and (
            self.transcript(page).exists()
        )

    def _transcripts(self, page: str) -> tuple[Path, Path]:
        """Returns the possible paths of a page's transcript: `a.txt` and `a.jpg.txt`."""
        folder = Path(self.transcripts)
        return _inside(folder, str(Path(page).with_suffix(".txt"))), _inside(folder, f"{page}.txt")

    def readings(self, page: str) -> Path:
        """Returns the file with the transcripts of a page that is being cross-checked."""
        return _inside(_folder("readings", self.name), f"{page}.json")

    def store(self, page: str, text: str, hocr: str | None) -> Path:
        """Writes the transcript of a page and its hOCR, if any. Returns the transcript's path."""
        target = self.transcript(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        positions = target.with_suffix(".hocr")
        if hocr is None:
            positions.unlink(missing_ok=True)  # of an earlier transcript
        else:
            atomic.write(positions, hocr.encode())
        atomic.write(target, text.encode())
        return target


#: The name of a page of a file that has several. Names of files have an extension.
_PAGE = re.compile(r"(.+)\.pages/[0-9]{4,}", re.ASCII | re.DOTALL)


def page_of(file: str, number: int) -> str:
    """Returns the name of a page of a file that has several. `number` counts from 1."""
    return f"{file}.pages/{number:04}"


def file_of(page: str) -> str:
    """Returns the name of the file that contains a page."""
    match = _PAGE.fullmatch(page)
    return match[1] if match else page


#: Extensions of images, for finding images whose transcripts would have the same name.
_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".tif", ".tiff", ".png", ".bmp", ".gif", ".jp2", ".webp", ".pcx", ".psd"}
)


def _inside(folder: Path, name: str) -> Path:
    """Returns `folder / name`, or raises PageWithdrawn if that path is outside the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise swarm_errors.PageWithdrawn()
    return path


def _folder(what: str, name: str) -> Path:
    return settings.get().data_dir / "swarm" / what / name


def _file(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise CollectionError(
            f"{name!r} is not a valid name of a collection. Use a-z, 0-9, '.', '_' and '-'"
        )
    return _folder("collections", f"{name}.json")


def get(name: str) -> Collection:
    """Returns a collection, or raises PageWithdrawn if it does not exist."""
    try:
        data = json.loads(_file(name).read_bytes())
        return Collection(**{**data, "languages": tuple(data["languages"])})
    except (OSError, CollectionError, ValueError, TypeError, LookupError):
        raise swarm_errors.PageWithdrawn() from None


def open_folder(name: str, images: Path, **changed: Any) -> Collection:
    """Returns the collection of a folder: the existing one with changes, or a new one."""
    try:
        return replace(get(name), images=str(images), **changed)
    except swarm_errors.PageWithdrawn:
        config = settings.get()
        defaults = {
            "transcripts": str(_folder("transcripts", name).resolve()),
            "languages": tuple(config.default_languages.split("+")),
        }
        return Collection(name=name, images=str(images), **{**defaults, **changed})


def save(collection: Collection) -> None:
    """Creates a collection, or changes the options of an existing one."""
    file = _file(collection.name)
    try:
        known = get(collection.name)
    except swarm_errors.PageWithdrawn:
        known = None
    if known and known.images != collection.images:
        raise CollectionError(
            f"{collection.name} is already the collection of {known.images}. Choose another --name"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(file, json.dumps(asdict(collection), indent=1).encode())


def name_of(folder: Path) -> str:
    """Returns a valid collection name for a folder."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._")
    return name[:64] or "images"
