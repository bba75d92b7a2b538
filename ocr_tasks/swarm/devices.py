"""The devices of the swarm: statistics of each, and whether it is trusted.

A device is identified by its token or, without one, its IP address, and by a name that it chooses.
A share of its transcripts is cross-checked. A device whose words differ too often gets no more
pages.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import cast

from ocr_tasks.redis import connection
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import redis_keys

#: Maximum number of devices in Redis. Those that were not seen for the longest time are deleted.
_MOST = 10_000

#: Minimum similarity of two transcripts that agree (Dice coefficient of their words).
AGREEMENT = 0.8

#: A device is distrusted from this number of differing transcripts, if it is also at least this
#: share of the checked ones.
_DISAGREEMENTS, _SHARE = 3, 0.3

#: A device counts as present for this many seconds after its last request.
PRESENT_SECONDS = 60

_NAME = re.compile(r"[^A-Za-z0-9._ -]+")
_COUNTS = ("open", "leased", "done", "failed", "expired", "late", "checked", "disagreed")


@dataclass(frozen=True, slots=True)
class Device:
    """Statistics of a device. `first` and `last` are Unix times; the other fields count pages.

    `open` pages are leased now, `leased` is the total. `late` transcripts came after another one
    was accepted. `disagreed` of the `checked` transcripts differed from another one.
    """

    name: str
    first: float
    last: float
    open: int = 0
    leased: int = 0
    done: int = 0
    failed: int = 0
    expired: int = 0
    late: int = 0
    checked: int = 0
    disagreed: int = 0

    @property
    def trusted(self) -> bool:
        return self.disagreed < _DISAGREEMENTS or self.disagreed < _SHARE * self.checked


def name(who: str, own: str) -> str:
    """Returns the name of a device. `who` is its token or IP address, `own` the name it chose."""
    return f"{who}/{_NAME.sub('', own).strip()[:40] or 'device'}"


def check(device: str) -> None:
    """Raises DeviceDistrusted if a device is not trusted."""
    with connection.translated_errors():
        counts = connection.client().hmget(_key(device), ["checked", "disagreed"])
    checked, disagreed = (int(value or 0) for value in counts)
    if not Device(device, 0, 0, checked=checked, disagreed=disagreed).trusted:
        raise swarm_errors.DeviceDistrusted(f"{disagreed} of {checked} checked pages differed")


def note_check(device: str, agreed: bool) -> None:
    """Records a cross-check of a device's transcript, and whether the transcripts agreed."""
    if not device:
        return
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.hincrby(_key(device), "checked", 1)
        pipe.hincrby(_key(device), "disagreed", 0 if agreed else 1)
        pipe.execute()


def forget(device: str) -> bool:
    """Deletes the statistics of a device, which is then trusted again. Returns False if unknown."""
    with connection.translated_errors():
        connection.client().zrem(_ALL, device)
        return bool(connection.client().delete(_key(device)))


def latest(most: int = 100) -> list[Device]:
    """Returns the devices that were seen last, and deletes the oldest ones above the maximum."""
    with connection.translated_errors():
        client = connection.client()
        surplus = cast("list[str]", client.zrange(_ALL, 0, -_MOST - 1))
        with client.pipeline(transaction=False) as pipe:
            for device in surplus:
                pipe.zrem(_ALL, device)
                pipe.delete(_key(device))
            pipe.execute()
        names = cast("list[str]", client.zrange(_ALL, 0, most - 1, desc=True))
        with client.pipeline(transaction=False) as pipe:
            for device in names:
                pipe.hgetall(_key(device))
            rows = cast("list[dict[str, str]]", pipe.execute())
    return [_device(*pair) for pair in zip(names, rows, strict=True) if pair[1]]


def present() -> int:
    """Returns the number of devices that were seen in the last minute."""
    with connection.translated_errors():
        since = connection.now() - PRESENT_SECONDS
        return int(connection.client().zcount(_ALL, since, "+inf"))


def likeness(one: str, other: str) -> float:
    """Returns the Dice coefficient of the words of two texts, from 0 (different) to 1 (equal)."""
    left, right = Counter(one.split()), Counter(other.split())
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _device(device: str, row: dict[str, str]) -> Device:
    counts = {count: int(row.get(count, 0)) for count in _COUNTS}
    return Device(device, float(row.get("first", 0)), float(row.get("last", 0)), **counts)


def _key(device: str) -> str:
    return f"{redis_keys.SWARM}device:{device}"


_ALL = f"{redis_keys.SWARM}devices"
