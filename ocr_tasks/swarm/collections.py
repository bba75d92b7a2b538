"""Collections: folders of page images whose transcripts go into folders of the same shape.

    swarm/collections/<name>.json   where the images are and the transcripts go
          transcripts/<name>/…      the transcripts, unless another folder was chosen
          readings/<name>/…         the readings of pages that are read more than once
          images/<name>/…           images in another format than the collection has them in

All under the data folder. An operator makes them on this machine (`loading`). The queue knows only
their names, and the names of pages in them; where files lie is not taken from Redis.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ocr_tasks import errors, settings
from ocr_tasks.storage import atomic

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


class CollectionError(Exception):
    """A collection cannot be had or made; the text says why."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A folder of images, the folder of their transcripts, and how they are to be read."""

    name: str
    images: str
    transcripts: str
    languages: tuple[str, ...]
    delete_images: bool = False
    as_png: bool = False

    def image(self, page: str) -> Path:
        """The image of a page, as the collection has it."""
        return _inside(Path(self.images), page)

    def converted(self, page: str) -> Path:
        """The image of a page in another format, if there is one."""
        return _inside(_folder("images", self.name), f"{page}.png")

    def served(self, page: str) -> Path:
        """The image of a page that devices get."""
        converted = self.converted(page)
        return converted if converted.exists() else self.image(page)

    def transcript(self, page: str) -> Path:
        """Where the transcript of a page goes: beside it, the name ends in .txt instead.

        Where the folder has two images that differ in their ending only, it comes after that.
        """
        image = self.image(page)
        endings = {*_ENDINGS, *map(str.upper, _ENDINGS)} - {image.suffix}
        has_twin = any(image.with_suffix(ending).exists() for ending in endings)
        return self._transcripts(page)[has_twin]

    def has_transcript(self, page: str) -> bool:
        """Whether the transcript of a page is there."""
        return any(path.exists() for path in self._transcripts(page)) and (
            self.transcript(page).exists()
        )

    def _transcripts(self, page: str) -> tuple[Path, Path]:
        """Where the transcript of a page may be: without a twin, and with one."""
        folder = Path(self.transcripts)
        return _inside(folder, str(Path(page).with_suffix(".txt"))), _inside(folder, f"{page}.txt")

    def readings(self, page: str) -> Path:
        """Where the readings of a page are kept until they are compared."""
        return _inside(_folder("readings", self.name), f"{page}.json")

    def store(self, page: str, text: str, hocr: str | None) -> Path:
        """Writes the transcript of a page, and beside it its hOCR if there is one."""
        target = self.transcript(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        if hocr is not None:
            atomic.write(target.with_suffix(".hocr"), hocr.encode())
        atomic.write(target, text.encode())
        return target


#: What counts as an image where transcripts might get the same name.
_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".tif", ".tiff", ".png", ".bmp", ".gif", ".jp2", ".webp", ".pcx", ".psd"}
)


def _inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise errors.PageWithdrawn()
    return path


def _folder(what: str, name: str) -> Path:
    return settings.get().data_dir / "swarm" / what / name


def _file(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise CollectionError(f"{name!r} is no name of a collection: a-z, 0-9, '.', '_' and '-'")
    return _folder("collections", f"{name}.json")


def get(name: str) -> Collection:
    """The collection of this name."""
    try:
        data = json.loads(_file(name).read_bytes())
        return Collection(**{**data, "languages": tuple(data["languages"])})
    except (OSError, CollectionError, ValueError, TypeError, LookupError):
        raise errors.PageWithdrawn() from None


def save(collection: Collection) -> None:
    """Makes a collection, or changes how its pages are read."""
    file = _file(collection.name)
    try:
        known = get(collection.name)
    except errors.PageWithdrawn:
        known = None
    if known and known.images != collection.images:
        raise CollectionError(
            f"the name {collection.name} belongs to {known.images}; choose another by --name"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(file, json.dumps(asdict(collection), indent=1).encode())


def name_of(folder: Path) -> str:
    """A name for the collection of a folder."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._")
    return name[:64] or "images"
