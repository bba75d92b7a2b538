"""The devices of the swarm, and whether their clients are trusted.

A device is identified by its client (its token or, without one, its IP address) and by a name that
it chooses. A share of the transcripts is cross-checked with those of other clients. A client whose
words differ too often gets no more pages, whatever names its devices choose.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import cast

from ocr_tasks.redis import connection
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import redis_keys

#: Minimum similarity of two transcripts that agree (Dice coefficient of their words).
AGREEMENT = 0.8

#: A client is distrusted from this number of differing transcripts, if it is also at least this
#: share of the checked ones.
_DISAGREEMENTS, _SHARE = 3, 0.3

#: A device counts as present for this many seconds after its last request.
PRESENT_SECONDS = 60

#: A device that returns within this number of seconds was sent back by another server.
_REFERRAL_SECONDS = 5

_NAME = re.compile(r"[^A-Za-z0-9._: -]+")
_MAX_NAME_LENGTH = 60
_COUNTS = ("open", "leased", "done", "failed", "expired", "late", "checked", "disagreed")


@dataclass(frozen=True, slots=True)
class Device:
    """Statistics of a device. `first` and `last` are Unix times; the other fields count pages.

    `open` pages are leased now, `leased` is the total. `late` transcripts came after another one
    was accepted. `disagreed` of the `checked` transcripts differed from another one.
    `trusted` is that of the client.
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
    trusted: bool = True


def name(client: str, own: str) -> str:
    """Returns the name of a device: its client, and `own`, the name that it chose."""
    return f"{client}/{_NAME.sub('', own).strip()[:_MAX_NAME_LENGTH] or 'device'}"


def client_of(device: str) -> str:
    """Returns the client of a device: its token or IP address."""
    return device.rpartition("/")[0] or device


def check(device: str) -> None:
    """Raises DeviceDistrusted if the client of a device is not trusted."""
    with connection.translated_errors():
        row = cast("dict[str, str]", connection.client().hgetall(_client_key(client_of(device))))
    checked, disagreed = _check_counts(row)
    if not _is_trusted(checked, disagreed):
        raise swarm_errors.DeviceDistrusted(f"{disagreed} of {checked} checked pages differed")


def note_check(device: str, agreed: bool) -> None:
    """Records a cross-check of a device's transcript, and whether the transcripts agreed."""
    with connection.client().pipeline(transaction=False) as pipe:
        for key in (_key(device), _client_key(client_of(device))):
            pipe.hincrby(key, "checked", 1)
            pipe.hincrby(key, "disagreed", 0 if agreed else 1)
        pipe.execute()


def note_referral(device: str) -> bool:
    """Records that a device is sent to another server. Returns False if that was just done."""
    with connection.translated_errors():
        key = f"{redis_keys.SWARM}referred:{device}"
        return bool(connection.client().set(key, "1", nx=True, ex=_REFERRAL_SECONDS))


def forget(device: str) -> bool:
    """Deletes the statistics of a device; its client is then trusted again.

    Returns False if the device is unknown.
    """
    with connection.translated_errors():
        connection.client().zrem(_ALL, device)
        return bool(connection.client().delete(_key(device), _client_key(client_of(device))))


def latest(most: int = 100) -> list[Device]:
    """Returns the devices that were seen last."""
    with connection.translated_errors():
        client = connection.client()
        names = cast("list[str]", client.zrange(_ALL, 0, most - 1, desc=True))
        with client.pipeline(transaction=False) as pipe:
            for device in names:
                pipe.hgetall(_key(device))
                pipe.hgetall(_client_key(client_of(device)))
            rows = cast("list[dict[str, str]]", pipe.execute())
    found = zip(names, rows[::2], rows[1::2], strict=True)
    return [_device(device, own, of_client) for device, own, of_client in found if own]


def present() -> int:
    """Returns the number of devices that were seen in the last minute."""
    with connection.translated_errors():
        since = connection.now() - PRESENT_SECONDS
        return int(connection.client().zcount(_ALL, since, "+inf"))


def has_other_client(device: str, seconds: float) -> bool:
    """Returns whether another client than the device's requested a page in these seconds."""
    own = client_of(device)
    with connection.translated_errors():
        since = connection.now() - seconds
        newest = cast(
            "list[str]", connection.client().zrevrangebyscore(_CLIENTS, "+inf", since, 0, 2)
        )
        return any(client != own for client in newest)


def likeness(one: str, other: str) -> float:
    """Returns the Dice coefficient of the words of two texts, from 0 (different) to 1 (equal)."""
    left, right = Counter(one.split()), Counter(other.split())
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _is_trusted(checked: int, disagreed: int) -> bool:
    return disagreed < _DISAGREEMENTS or disagreed < _SHARE * checked


def _check_counts(row: dict[str, str]) -> tuple[int, int]:
    return int(row.get("checked", 0)), int(row.get("disagreed", 0))


def _device(device: str, row: dict[str, str], of_client: dict[str, str]) -> Device:
    counts = {count: int(row.get(count, 0)) for count in _COUNTS}
    first, last = (float(row.get(name, 0)) for name in ("first", "last"))
    return Device(device, first, last, trusted=_is_trusted(*_check_counts(of_client)), **counts)


def _key(device: str) -> str:
    return f"{redis_keys.SWARM}device:{device}"


def _client_key(client: str) -> str:
    return f"{redis_keys.SWARM}client:{client}"


_ALL = f"{redis_keys.SWARM}devices"
_CLIENTS = f"{redis_keys.SWARM}clients"
