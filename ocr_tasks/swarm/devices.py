"""The devices of the swarm: what each has done, and whether it is believed.

A device is known by the token it comes with, or its address, and a name of its own choice. Some of
what it reads is read a second time; one whose words differ too often gets no more pages.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import cast

from ocr_tasks import errors
from ocr_tasks.redis import connection
from ocr_tasks.swarm import redis_keys

#: Devices that are remembered; of more, those that have not been seen for longest are forgotten.
_MOST = 10_000

#: How alike two readings of a page are where they agree (Dice, over words).
AGREEMENT = 0.8

#: A device is no longer believed after so many disagreements, if they are this share of its checks.
_DISAGREEMENTS, _SHARE = 3, 0.3

#: Seconds since a device was last seen for which it counts as there.
PRESENT_SECONDS = 60

_NAME = re.compile(r"[^A-Za-z0-9._ -]+")
_COUNTS = ("open", "leased", "done", "failed", "expired", "late", "checked", "disagreed")


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a device. Times are seconds since the epoch; the others count pages."""

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
    """The name of a device: `who` sends it, and what it calls itself."""
    return f"{who}/{_NAME.sub('', own).strip()[:40] or 'device'}"


def check(device: str) -> None:
    """Makes sure that a device is believed."""
    with connection.errors_as_ours():
        found = connection.client().hmget(_key(device), ["checked", "disagreed"])
    checked, disagreed = (int(value or 0) for value in found)
    if not Device(device, 0, 0, checked=checked, disagreed=disagreed).trusted:
        raise errors.DeviceDistrusted(f"{disagreed} of {checked} checked pages differed")


def note_check(device: str, agreed: bool) -> None:
    """Notes that a page was read a second time, and whether that gave the same."""
    if not device:
        return
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.hincrby(_key(device), "checked", 1)
        pipe.hincrby(_key(device), "disagreed", 0 if agreed else 1)
        pipe.execute()


def forget(device: str) -> bool:
    """Forgets a device, and that it is not believed. False: it is not known."""
    with connection.errors_as_ours():
        connection.client().zrem(_ALL, device)
        return bool(connection.client().delete(_key(device)))


def latest(most: int = 100) -> list[Device]:
    """The devices that were seen last; those that are too many are forgotten."""
    with connection.errors_as_ours():
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
    """How many devices were seen in the last minute."""
    with connection.errors_as_ours():
        since = connection.now() - PRESENT_SECONDS
        return int(connection.client().zcount(_ALL, since, "+inf"))


def likeness(one: str, other: str) -> float:
    """How alike two texts are: 0 nothing in common, 1 the same words as often (Dice)."""
    left, right = Counter(one.split()), Counter(other.split())
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _device(device: str, row: dict[str, str]) -> Device:
    counts = {count: int(row.get(count, 0)) for count in _COUNTS}
    return Device(device, float(row.get("first", 0)), float(row.get("last", 0)), **counts)


def _key(device: str) -> str:
    return f"{redis_keys.SWARM}device:{device}"


_ALL = f"{redis_keys.SWARM}devices"
