"""The data model of the swarm: pages, leases, and the abilities of devices."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

#: The required format of a transcript.
Format = Literal["text", "hocr"]

#: Formats that contain the positions of words.
_WITH_POSITIONS = {"hocr", "alto"}


@dataclass(frozen=True, slots=True)
class SwarmPage:
    """A page image that needs a transcript.

    It belongs to a collection (`collection`, and `name`, its path there), or to a job (`job_id`,
    `run`, and `number`, counted from 1). If `format` is `hocr`, the transcript must contain the
    positions of words. `width` and `height` are in pixels.
    """

    media_type: str
    width: int
    height: int
    dpi: float
    languages: tuple[str, ...]
    format: Format = "text"
    collection: str = ""
    name: str = ""
    job_id: str = ""
    run: str = ""
    number: int = 0

    @property
    def id(self) -> str:
        """The id of the page, derived from its collection and name, or job, run and number."""
        text = f"{self.job_id}/{self.run}/{self.number}" if self.job_id else self.key
        return _digest(text)

    @property
    def key(self) -> str:
        """The name of the page for docr/smd's clients. It is never used as a path."""
        return f"{self.collection}/{self.name}" if self.collection else f"{self.run}/{self.number}"

    @property
    def batch(self) -> str:
        return self.run

    @property
    def group(self) -> str:
        """The group of pages that the same devices can process. Groups of jobs sort first."""
        priority = "0" if self.job_id else "1"
        return "|".join((priority, self.format, self.media_type, "+".join(self.languages)))

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> SwarmPage:
        data = json.loads(text)
        return cls(**{**data, "languages": tuple(data["languages"])})


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device supports; None means everything.

    `formats` are those of its transcripts, `images` the media types that it can open.
    """

    languages: frozenset[str] | None = None
    formats: frozenset[str] | None = None
    images: frozenset[str] | None = None

    def can_read(self, group: str) -> bool:
        """Returns whether the device can process pages of a group (`SwarmPage.group`)."""
        _, form, media_type, languages = group.split("|")
        # Formats with word positions also contain the text.
        can = self.formats is None or form in self.formats or bool(self.formats & _WITH_POSITIONS)
        can = can and (self.images is None or media_type in self.images)
        return can and (self.languages is None or self.languages.issuperset(languages.split("+")))


@dataclass(frozen=True, slots=True)
class Lease:
    """A device's lease of a page. `id` contains a secret that authorizes the transcript."""

    id: str
    page: SwarmPage
    seconds: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """Permission to store a transcript. `page` is None if it is stored already."""

    lease: str
    page: SwarmPage | None
    device: str


def id_of_key(key: str) -> str:
    """Returns the id of the page of a collection with this `SwarmPage.key`."""
    return _digest(key)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
