"""Transcripts from devices: validates, sanitizes and stores them.

Devices are not trusted. hOCR and ALTO are parsed, and hOCR is written again from the words and
boxes, without scripts, styles and attributes of the device. The size of the page must match. Text
is decoded with replacement characters, and control characters are removed.
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

from ocr_tasks import errors
from ocr_tasks.formats import alto, hocr, text
from ocr_tasks.storage import atomic, layout
from ocr_tasks.swarm import collections, devices, queue
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import Accepted, SwarmPage

Sent = Literal["text", "hocr", "alto"]

#: The format of a transcript by its media type.
FORMATS: Mapping[str, Sent] = {
    "text/plain": "text",
    **dict.fromkeys(("text/vnd.hocr+html", "application/xhtml+xml", "text/html"), "hocr"),
    **dict.fromkeys(("application/alto+xml", "application/xml", "text/xml"), "alto"),
}

#: Control characters except line ends and tabs, and characters that change the text direction.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)

#: Maximum number of clients that process the same page for a cross-check.
_MAX_READINGS = 3

_PARSERS = {"hocr": hocr.parse, "alto": alto.parse}


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a page, and its hOCR if the device sent the positions of words."""

    text: str
    hocr: str | None = None


def read(page: SwarmPage, body: bytes, form: Sent = "text") -> Transcript:
    """Returns the sanitized transcript from the body of a request, or raises TranscriptInvalid."""
    most = swarm_settings.get().swarm_transcript_bytes
    if len(body) > most:
        raise swarm_errors.TranscriptTooLarge(f"The transcript is larger than {most} bytes")
    if form == "text":
        if page.format == "hocr":
            raise swarm_errors.TranscriptInvalid(
                "Send hOCR or ALTO, with the coordinates of the words"
            )
        return Transcript(clean(body.decode("utf-8", "replace")))
    try:
        parsed = _PARSERS[form](body, 1, page.dpi)
    except (ValueError, OverflowError, RecursionError) as error:
        raise swarm_errors.TranscriptInvalid(str(error)[:300]) from None
    if (parsed.width, parsed.height) != (page.width, page.height):
        raise swarm_errors.TranscriptInvalid(
            f"The transcript is for a page of {parsed.width} × {parsed.height} pixels, "
            f"but the page has {page.width} × {page.height}"
        )
    return Transcript(clean(text.page_text(parsed)), hocr.page(parsed, "", "OCR Tasks swarm"))


def clean(words: str) -> str:
    """Removes characters that could control a terminal, a log or the direction of other text."""
    return _CONTROL.sub("", words.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))


def take(accepted: Accepted, body: bytes, form: Sent) -> None:
    """Stores an accepted transcript and finishes its page in the queue.

    If the transcript is invalid or cannot be stored, another one can be accepted again. Raises
    DeviceDistrusted, and releases the page, if its client is not trusted any more.
    """
    page = accepted.page
    if page is None:
        return
    try:
        devices.check(accepted.device)
        transcript = read(page, body, form)
        if page.job_id:
            _store_for_job(page, transcript)
            queue.finish(accepted)
        else:
            _store_in_collection(page, transcript, accepted)
    except swarm_errors.DeviceDistrusted:
        queue.abandon(accepted)
        with contextlib.suppress(swarm_errors.LeaseLost):
            queue.release(accepted.lease)
        raise
    except errors.OcrTasksError:
        queue.abandon(accepted)
        raise


def hocr_file(page: SwarmPage) -> Path:
    """Returns the path of the hOCR of a job's page."""
    return layout.job(page.job_id).work(page.run) / f"swarm-{page.number:06d}.hocr"


def image_file(page: SwarmPage) -> Path:
    """Returns the path of the image that devices receive; it may not exist any more."""
    if page.job_id:
        return hocr_file(page).with_suffix(".png")
    return collections.get(page.collection).served(page.name)


def _store_for_job(page: SwarmPage, transcript: Transcript) -> None:
    target = hocr_file(page)
    if not target.parent.is_dir():
        raise swarm_errors.PageWithdrawn()
    with layout.storage_errors():
        atomic.write(target, (transcript.hocr or "").encode())


def _store_in_collection(page: SwarmPage, transcript: Transcript, accepted: Accepted) -> None:
    collection = collections.get(page.collection)
    readings = collection.readings(page.name)
    again, device = False, accepted.device
    with layout.storage_errors():
        if readings.exists() or (wants_check() and _has_second_client(accepted.device)):
            chosen = _cross_checked(readings, transcript, accepted.device)
            again = chosen is None
            transcript, device = chosen or (transcript, device)
        # Stored even if another client will process the page, because none may come.
        collection.store(page.name, transcript.text, transcript.hocr)
    queue.finish(accepted, again, device)
    if again:
        return
    with contextlib.suppress(OSError):
        readings.unlink()
    if collection.delete_images:
        collection.delete_image(page.name)


def _has_second_client(device: str) -> bool:
    """Returns whether another client may check a transcript; counts a check that is not possible.

    The devices of one client do not check each other: it could choose any number of names.
    """
    # A client requests no page while it processes one, which takes those of docr/smd longest.
    seconds = max(devices.PRESENT_SECONDS, swarm_settings.get().swarm_docr_seconds)
    found = devices.has_other_client(device, seconds)
    if not found:
        queue.count_check(possible=False)
    return found


def _cross_checked(
    file: Path, transcript: Transcript, device: str
) -> tuple[Transcript, str] | None:
    """Compares a transcript with those of other clients. Returns the best one and its device.

    Returns None if another client must process the page: until two transcripts agree or there are
    three. Then the devices whose transcripts agree pass the check.
    """
    try:
        rows = json.loads(file.read_bytes())
    except FileNotFoundError:
        rows = []
    rows.append({"device": device, "text": transcript.text, "hocr": transcript.hocr})
    pairs = [
        (devices.likeness(one["text"], other["text"]), place, later)
        for later, other in enumerate(rows)
        for place, one in enumerate(rows[:later])
    ]
    best_pair = max(pairs, default=(0.0, 0, 0))
    if best_pair[0] < devices.AGREEMENT and len(rows) < _MAX_READINGS:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, json.dumps(rows).encode())
        return None
    queue.count_check(possible=True)
    agreeing = set(best_pair[1:]) if best_pair[0] >= devices.AGREEMENT else set()
    for place, row in enumerate(rows):
        # If no two transcripts agree, it is unknown which of them are wrong.
        if agreeing:
            devices.note_check(row["device"], place in agreeing)
    best = rows[best_pair[2]]
    return Transcript(best["text"], best["hocr"]), best["device"]


def compared_devices(file: Path) -> set[str]:
    """Returns the devices whose transcripts of a page are in its file of `Collection.readings`."""
    try:
        return {row["device"] for row in json.loads(file.read_bytes())}
    except FileNotFoundError:
        return set()


def wants_check() -> bool:
    """Decides at random whether a page is cross-checked (OCR_SWARM_CHECK_SHARE)."""
    return random.random() < swarm_settings.get().swarm_check_share  # noqa: S311  # no secret
