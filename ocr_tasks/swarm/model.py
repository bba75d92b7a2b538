"""The words of the swarm: pages, devices' rights to them, and what devices can do. Data only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

#: What the transcript of a page has to be at least.
Format = Literal["text", "hocr"]

#: What says where words are.
_WITH_PLACES = {"hocr", "alto"}


@dataclass(frozen=True, slots=True)
class SwarmPage:
    """A page image that waits for a transcript.

    It is one of a collection (`collection`, and `name`, its path there), or a page of a job
    (`job_id`, `run`, and `number`, counted from 1). `format` is what its transcript must be at
    least: `hocr` has the places of words. `width` and `height` are pixels.
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
        """The same for the same page."""
        text = f"{self.job_id}/{self.run}/{self.number}" if self.job_id else self.key
        return _digest(text)

    @property
    def key(self) -> str:
        """Under what name docr/smd's clients know it; a look-up, never a path of ours."""
        return f"{self.collection}/{self.name}" if self.collection else f"{self.run}/{self.number}"

    @property
    def batch(self) -> str:
        return self.run

    @property
    def group(self) -> str:
        """Pages that the same devices can read; those of jobs come first."""
        urgency = "0" if self.job_id else "1"
        return "|".join((urgency, self.format, self.media_type, "+".join(self.languages)))

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> SwarmPage:
        data = json.loads(text)
        return cls(**{**data, "languages": tuple(data["languages"])})


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device can do; None: everything."""

    languages: frozenset[str] | None = None
    formats: frozenset[str] | None = None
    images: frozenset[str] | None = None

    def can_read(self, group: str) -> bool:
        _, form, media_type, languages = group.split("|")
        # Who can say where words are can say what they are.
        good = self.formats is None or form in self.formats or bool(self.formats & _WITH_PLACES)
        good = good and (self.images is None or media_type in self.images)
        return good and (self.languages is None or self.languages.issuperset(languages.split("+")))


@dataclass(frozen=True, slots=True)
class Lease:
    """A device's right to a page, and to answer for it. `id` is a secret of the two."""

    id: str
    page: SwarmPage
    seconds: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A transcript that may be stored now; `page` is None if it is stored already."""

    lease: str
    page: SwarmPage | None
    device: str


def id_of_key(key: str) -> str:
    """The id of the page of a collection that docr/smd's clients know by this name."""
    return _digest(key)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
