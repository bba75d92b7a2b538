"""What devices send back: looked into, cleaned, and stored where it belongs.

Nothing of it is believed. hOCR and ALTO are parsed and written anew, as hOCR, so that neither
scripts nor styles nor attributes of a device come through, and it must be of a page of the right
size. Text is decoded with replacement, without characters that control something.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ocr_tasks import errors, settings
from ocr_tasks.formats import alto, hocr, text
from ocr_tasks.storage import atomic, layout
from ocr_tasks.swarm import collections, devices, queue
from ocr_tasks.swarm.model import Accepted, SwarmPage

Sent = Literal["text", "hocr", "alto"]

#: What a device may send by its media type; all else is plain text.
FORMATS: Mapping[str, Sent] = {
    **dict.fromkeys(("text/vnd.hocr+html", "application/xhtml+xml", "text/html"), "hocr"),
    **dict.fromkeys(("application/alto+xml", "application/xml", "text/xml"), "alto"),
}

#: Control characters, but for line ends and tabs; and those that turn the direction of text.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)

#: Readings of a page at most.
_READINGS = 3

_PARSERS = {"hocr": hocr.parse, "alto": alto.parse}


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was read on a page: its text, and its words with their places where those were asked."""

    text: str
    hocr: str | None = None


def read(page: SwarmPage, body: bytes, form: Sent = "text") -> Transcript:
    """The transcript that a device sent."""
    most = settings.get().swarm_transcript_bytes
    if len(body) > most:
        raise errors.TranscriptTooLarge(f"The transcript is larger than {most} bytes")
    if form == "text":
        if page.format == "hocr":
            raise errors.TranscriptInvalid("Send hOCR or ALTO, with the coordinates of the words")
        return Transcript(clean(body.decode("utf-8", "replace")))
    try:
        found = _PARSERS[form](body, 1, page.dpi)
    except (ValueError, OverflowError, RecursionError) as error:
        raise errors.TranscriptInvalid(str(error)[:300]) from None
    if (found.width, found.height) != (page.width, page.height):
        raise errors.TranscriptInvalid(
            f"The transcript is for a page of {found.width} × {found.height} pixels, "
            f"but the page has {page.width} × {page.height}"
        )
    return Transcript(clean(text.page_text(found)), hocr.page(found, "", "OCR Tasks swarm"))


def clean(words: str) -> str:
    """Text without what would control a terminal, a log or the direction of other text."""
    return _CONTROL.sub("", words.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))


def take(accepted: Accepted, body: bytes, form: Sent) -> None:
    """Stores the transcript of a page that was accepted, and says so."""
    page = accepted.page
    if page is None:
        return
    try:
        found = read(page, body, form)
        if page.job_id:
            _store_for_job(page, found)
            queue.finish(accepted)
        else:
            _store_in_collection(page, found, accepted)
    except errors.OcrTasksError:
        queue.abandon(accepted)
        raise


def answer_file(page: SwarmPage) -> Path:
    """Where the hOCR of a page of a job goes."""
    return layout.job(page.job_id).work(page.run) / f"swarm-{page.number:06d}.hocr"


def image_file(page: SwarmPage) -> Path:
    """The image of a page that devices get; it may be gone."""
    if page.job_id:
        return answer_file(page).with_suffix(".png")
    return collections.get(page.collection).served(page.name)


def _store_for_job(page: SwarmPage, found: Transcript) -> None:
    target = answer_file(page)
    if not target.parent.is_dir():
        raise errors.PageWithdrawn()
    with layout.failures():
        atomic.write(target, (found.hocr or "").encode())


def _store_in_collection(page: SwarmPage, found: Transcript, accepted: Accepted) -> None:
    collection = collections.get(page.collection)
    readings = collection.readings(page.name)
    again = False
    with layout.failures():
        if readings.exists() or (wants_check() and devices.present() > 1):
            chosen = _compared(readings, found, accepted.device)
            found, again = chosen or found, chosen is None
        # Also what is read again has a transcript until then: perhaps nobody comes.
        collection.store(page.name, found.text, found.hocr)
    queue.finish(accepted, again)
    if again:
        return
    with contextlib.suppress(OSError):
        readings.unlink()
    if collection.delete_images:
        for file in (collection.image(page.name), collection.converted(page.name)):
            with contextlib.suppress(OSError):
                file.unlink()


def _compared(file: Path, found: Transcript, device: str) -> Transcript | None:
    """The transcript of a page that several devices read; None: another one is to read it.

    Two that agree are believed. Where they do not, a third one decides which of them are.
    """
    try:
        rows = json.loads(file.read_bytes())
    except FileNotFoundError:
        rows = []
    rows.append({"device": device, "text": found.text, "hocr": found.hocr})
    pairs = [
        (devices.likeness(one["text"], other["text"]), place, later)
        for later, other in enumerate(rows)
        for place, one in enumerate(rows[:later])
    ]
    likest = max(pairs, default=(0.0, 0, 0))
    if likest[0] < devices.AGREEMENT and len(rows) < _READINGS:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, json.dumps(rows).encode())
        return None
    agreeing = set(likest[1:]) if likest[0] >= devices.AGREEMENT else set()
    for place, row in enumerate(rows):
        # Where no two agree nobody can tell whose fault it is.
        if agreeing:
            devices.note_check(row["device"], place in agreeing)
    best = rows[likest[2]]
    return Transcript(best["text"], best["hocr"])


def wants_check() -> bool:
    """Whether this page is to be read a second time."""
    return random.random() < settings.get().swarm_check_share  # noqa: S311  # no secret
