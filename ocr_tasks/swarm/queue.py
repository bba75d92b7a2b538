"""The page queue of the swarm: page images that wait for devices, and who has which.

A device leases a page for a time, which it may prolong. A page whose lease runs out waits again, in
its old place; no timer is needed, as each lease that is asked for ends those that have run out. A
page that fails too often is set aside, with the reasons. The first good transcript wins, also one
that comes after its lease has run out; every later one is refused.

Each change is one script (`lua/swarm_….lua`), so that devices and servers may ask at the same time;
what it costs does not grow with the number of pages (logarithmically, to be exact).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from typing import Any, cast

from ocr_tasks import errors, settings
from ocr_tasks.redis import connection
from ocr_tasks.swarm import redis_keys
from ocr_tasks.swarm.model import Abilities, Accepted, Lease, SwarmPage

#: Seconds in which a transcript has to be stored once it has been accepted.
STORING_SECONDS = 60

#: Seconds for which the pages of a run stay wanted that nobody keeps.
BATCH_SECONDS = 20

_LEASE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})", re.ASCII)

#: The sets that pages of collections are in, by their state.
_SETS = {"done": "done", "aside": "aside", "leased": "leases"}


def put(pages: Sequence[SwarmPage]) -> list[bool]:
    """Has pages of one group wait; False for those that are known."""
    if not pages:
        return []
    rows = [text for page in pages for text in (page.id, page.to_json())]
    return [bool(row) for row in _run("put", [pages[0].group, pages[0].batch, *rows])]


def keep_batch(run: str) -> None:
    """Keeps the pages of a run of a job wanted for a while."""
    connection.client().set(f"{redis_keys.SWARM}batch:{run}", "1", ex=BATCH_SECONDS)


def lease(device: str, abilities: Abilities, seconds: int) -> Lease | None:
    """A page for a device, for so many seconds; None: none waits for it."""
    config = settings.get()
    secret = secrets.token_hex(16)
    with connection.errors_as_ours():
        groups = cast("set[str]", connection.client().smembers(f"{redis_keys.SWARM}groups"))
        wanted = sorted(group for group in groups if abilities.can_read(group))
        most = (config.swarm_leases_max, config.swarm_failures_max)
        found = _run("lease", [device, seconds, secret, *most, *wanted])
    if found == "many":
        raise errors.TooManyLeases(
            f"The device already has {config.swarm_leases_max} leased pages", retry_after=seconds
        )
    if found == "none":
        return None
    page_id, text = found
    return Lease(f"{page_id}-{secret}", SwarmPage.from_json(text), seconds)


def find(lease_id: str) -> SwarmPage:
    """The page of a lease that holds."""
    page_id, secret = _parts(lease_id)
    with connection.errors_as_ours():
        names = ["page", "lease", f"given:{secret}"]
        row = connection.client().hmget(_page(page_id), names)
    text, current, given = cast("list[str | None]", row)
    if text is None:
        raise errors.PageWithdrawn()
    if given is None:
        raise errors.LeaseUnknown()
    if current != secret:
        raise errors.LeaseLost()
    return SwarmPage.from_json(text)


def renew(lease_id: str, seconds: int) -> None:
    """Prolongs a lease."""
    _keep(lease_id, seconds)


def release(lease_id: str) -> None:
    """Gives a page back, unread and for others."""
    _keep(lease_id, 0)


def fail(lease_id: str, reason: str) -> None:
    """Gives a page back that the device cannot read."""
    _keep(lease_id, 0, reason or "no reason given")


def set_aside(lease_id: str, reason: str) -> None:
    """Has a page be given to nobody any more, as its image cannot be had."""
    _keep(lease_id, 0, reason, most=1)


def _keep(lease_id: str, seconds: int, reason: str = "", most: int | None = None) -> None:
    page_id, secret = _parts(lease_id)
    most = most or settings.get().swarm_failures_max
    with connection.errors_as_ours():
        kept = _run("keep", [page_id, secret, seconds, reason, most])
    if not kept:
        find(lease_id)  # says what is wrong with it
        raise errors.LeaseLost()


def accept(lease_id: str) -> Accepted:
    """Lets the transcript of a lease be stored now, by nobody else."""
    page_id, secret = _parts(lease_id)
    return _accept(page_id, secret)


def accept_for(page_id: str) -> Accepted:
    """The same for a page of a collection, in the name of whoever has it."""
    try:
        return _accept(page_id, "")
    except errors.PageWithdrawn:
        raise errors.LeaseUnknown() from None


def _accept(page_id: str, secret: str) -> Accepted:
    with connection.errors_as_ours():
        found = _run("accept", [page_id, secret, STORING_SECONDS])
    if found == "gone":
        raise errors.PageWithdrawn()
    if found == "unknown":
        raise errors.LeaseUnknown()
    if found == "late":
        raise errors.LeaseLost()
    if found == "same":
        return Accepted(f"{page_id}-{secret}", None, "")
    text, device, secret = found
    return Accepted(f"{page_id}-{secret}", SwarmPage.from_json(text), device)


def finish(accepted: Accepted, again: bool = False) -> None:
    """Says that a transcript is stored. `again`: another device is to read the page as well."""
    page_id, _, secret = accepted.lease.partition("-")
    with connection.errors_as_ours():
        if not _run("finish", [page_id, secret, int(again)]):
            raise errors.LeaseLost()


def abandon(accepted: Accepted) -> None:
    """Says that a transcript that was accepted is not stored after all, so others may be."""
    page_id, _, secret = accepted.lease.partition("-")
    with connection.errors_as_ours():
        _run("abandon", [page_id, secret])


def remove(page_id: str, even_done: bool = False) -> bool:
    """Forgets a page. False: its transcript is there or just comes, so it stays."""
    return bool(_run("remove", [page_id, int(even_done)]))


def wait_for_answer(page: SwarmPage, seconds: float) -> str | None:
    """What has become of a page of a job: `done DEVICE`, `aside`, or None after so many seconds."""
    row = connection.client().blpop([f"{redis_keys.SWARM}answer:{page.id}"], timeout=seconds)
    return cast("list[str]", row)[1] if row else None


def state(page_id: str) -> dict[str, str]:
    """All that is known of a page; empty if it is not known."""
    return cast("dict[str, str]", connection.client().hgetall(_page(page_id)))


def ids(state: str | None = None, start: int = 0, most: int = 500) -> list[str]:
    """The ids of some pages of collections: of all, by their loading, or of those `done`, `aside`
    or `leased`, by the time of that. `start` counts from 0.
    """
    name = redis_keys.SWARM + (_SETS[state] if state else "pages")
    found = connection.client().zrange(name, start, start + most - 1)
    return cast("list[str]", found)


def states(page_ids: Collection[str]) -> list[dict[str, str]]:
    """All that is known of each page."""
    with connection.client().pipeline(transaction=False) as pipe:
        for page_id in page_ids:
            pipe.hgetall(_page(page_id))
        return cast("list[dict[str, str]]", pipe.execute())


def counts() -> dict[str, int]:
    """How many pages wait, are leased, done and set aside; and transcripts that ever came."""
    with connection.errors_as_ours():
        client = connection.client()
        groups = cast("set[str]", client.smembers(f"{redis_keys.SWARM}groups"))
        with client.pipeline(transaction=False) as pipe:
            for group in groups:
                pipe.zcard(f"{redis_keys.SWARM}waiting:{group}")
            for name in ("leases", "done", "aside"):
                pipe.zcard(redis_keys.SWARM + name)
            pipe.hget(f"{redis_keys.SWARM}stats", "transcripts")
            *waiting, leased, done, aside, transcripts = pipe.execute()
    return {
        "waiting": sum(waiting),
        "leased": leased,
        "done": done,
        "aside": aside,
        "transcripts": int(transcripts or 0),
    }


def _parts(lease_id: str) -> tuple[str, str]:
    match = _LEASE.fullmatch(lease_id)
    if match is None:
        raise errors.LeaseUnknown()
    return match[1], match[2]


def _page(page_id: str) -> str:
    return f"{redis_keys.SWARM}page:{page_id}"


def _run(name: str, arguments: Sequence[str | int]) -> Any:
    return connection.run(f"swarm_{name}", [redis_keys.SWARM], arguments)
