"""The page queue of the swarm: page images that wait for devices, and the leases of devices.

A device leases a page for a limited time and can renew the lease. When a lease expires, the page
waits again in its old position; leases are expired by the next request for a page, without a timer.
Devices that cannot renew leases get long ones. When no other page waits, their pages are leased
again after a shorter time (`overdue_seconds`). A page that fails too often is not handed out any
more (state `aside`). The first valid transcript is accepted, even after its lease has expired;
later ones are rejected.

Each change is one atomic Lua script (`lua/swarm_….lua`). Its cost grows with the logarithm of the
number of pages.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Sequence
from typing import Any, cast

from ocr_tasks.redis import connection
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import redis_keys
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import Abilities, Accepted, Lease, SwarmPage

#: Seconds in which an accepted transcript must be stored.
STORING_SECONDS = 60

#: Seconds after which the pages of a run are dropped unless `keep_batch` is called again.
BATCH_SECONDS = 20

_LEASE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})", re.ASCII)

#: The Redis keys of the sets of collections' pages, by state.
_SETS = {"done": "done", "aside": "aside", "leased": "leases"}

#: The counters of `ocr:swarm:stats`.
_TOTALS = ("transcripts", "checked", "unchecked")


def put(pages: Sequence[SwarmPage]) -> list[bool]:
    """Adds pages of one group to the queue. Returns for each page whether it is new."""
    if not pages:
        return []
    rows = [text for page in pages for text in (page.id, page.to_json())]
    return [bool(row) for row in _run("put", [pages[0].group, pages[0].batch, *rows])]


def keep_batch(run: str) -> None:
    """Keeps the pages of a run of a job in the queue for another `BATCH_SECONDS`."""
    connection.client().set(f"{redis_keys.SWARM}batch:{run}", "1", ex=BATCH_SECONDS)


def lease(
    device: str, abilities: Abilities, seconds: int, overdue_seconds: int = 0
) -> Lease | None:
    """Leases a page to a device for some seconds. Returns None if there is none for it.

    After `overdue_seconds` (0: never), the page is leased to the next device that finds no other.
    """
    config = swarm_settings.get()
    secret = secrets.token_hex(16)
    with connection.translated_errors():
        groups = cast("set[str]", connection.client().smembers(f"{redis_keys.SWARM}groups"))
        suitable = sorted(group for group in groups if abilities.can_read(group))
        limits = (config.swarm_leases_max, config.swarm_failures_max, overdue_seconds)
        reply = _run("lease", [device, seconds, secret, *limits, *suitable])
    if reply == "many":
        raise swarm_errors.TooManyLeases(
            f"The device already has {config.swarm_leases_max} leased pages",
            retry_after=overdue_seconds or seconds,
        )
    if reply == "none":
        return None
    page_id, text = reply
    return Lease(f"{page_id}-{secret}", SwarmPage.from_json(text), seconds)


def find(lease_id: str) -> SwarmPage:
    """Returns the page of a valid lease, or raises an error that says why the lease is invalid."""
    return _find(lease_id)[0]


def device_of(lease_id: str) -> str:
    """Returns the device that has a valid lease; raises the same errors as `find`."""
    return _find(lease_id)[1]


def _find(lease_id: str) -> tuple[SwarmPage, str]:
    page_id, secret = _parts(lease_id)
    with connection.translated_errors():
        names = ["page", "lease", f"given:{secret}"]
        row = connection.client().hmget(_page(page_id), names)
    text, current, given = cast("list[str | None]", row)
    if text is None:
        raise swarm_errors.PageWithdrawn()
    if given is None:
        raise swarm_errors.LeaseUnknown()
    if current != secret:
        raise swarm_errors.LeaseLost()
    return SwarmPage.from_json(text), given


def renew(lease_id: str, seconds: int) -> None:
    """Renews a lease: it expires `seconds` from now."""
    _renew_or_release(lease_id, seconds)


def release(lease_id: str) -> None:
    """Returns a page to the queue without counting a failure."""
    _renew_or_release(lease_id, 0)


def fail(lease_id: str, reason: str) -> None:
    """Returns a page to the queue and counts a failure. The device does not get the page again."""
    _renew_or_release(lease_id, 0, reason or "no reason given")


def set_aside(lease_id: str, reason: str) -> None:
    """Releases a page that must not be handed out any more, because its image is missing."""
    _renew_or_release(lease_id, 0, reason, max_failures=1)


def _renew_or_release(
    lease_id: str, seconds: int, reason: str = "", max_failures: int | None = None
) -> None:
    """Renews a lease, or releases it if `seconds` is 0. A `reason` counts as a failure."""
    page_id, secret = _parts(lease_id)
    max_failures = max_failures or swarm_settings.get().swarm_failures_max
    with connection.translated_errors():
        changed = _run("keep", [page_id, secret, seconds, reason, max_failures])
    if not changed:
        find(lease_id)  # raises the error that says what is wrong with the lease
        raise swarm_errors.LeaseLost()


def accept(lease_id: str) -> Accepted:
    """Accepts the transcript of a lease: no other can be stored for `STORING_SECONDS`."""
    page_id, secret = _parts(lease_id)
    return _accept(page_id, secret)


def accept_for(page_id: str, client: str) -> Accepted:
    """Accepts a transcript of a collection's page that a device of the client has or had leased.

    This is for clients of docr/smd that send the name of the page instead of the lease.
    """
    try:
        return _accept(page_id, "", client)
    except swarm_errors.PageWithdrawn:
        raise swarm_errors.LeaseUnknown() from None


def _accept(page_id: str, secret: str, client: str = "") -> Accepted:
    with connection.translated_errors():
        reply = _run("accept", [page_id, secret, STORING_SECONDS, client])
    if reply == "gone":
        raise swarm_errors.PageWithdrawn()
    if reply == "unknown":
        raise swarm_errors.LeaseUnknown()
    if reply == "late":
        raise swarm_errors.LeaseLost()
    if reply == "same":
        return Accepted(f"{page_id}-{secret}", None, "")
    text, device, secret = reply
    return Accepted(f"{page_id}-{secret}", SwarmPage.from_json(text), device)


def finish(accepted: Accepted, again: bool = False, device: str = "") -> None:
    """Records that a transcript is stored. With `again`, another client gets the page as well.

    `device` is the one whose transcript is stored, by default that of the accepted one.
    """
    page_id, _, secret = accepted.lease.partition("-")
    with connection.translated_errors():
        if not _run("finish", [page_id, secret, int(again), device or accepted.device]):
            raise swarm_errors.LeaseLost()


def abandon(accepted: Accepted) -> None:
    """Records that an accepted transcript is not stored, so that another one can be accepted."""
    page_id, _, secret = accepted.lease.partition("-")
    with connection.translated_errors():
        _run("abandon", [page_id, secret])


def remove(page_id: str, even_done: bool = False) -> bool:
    """Removes a page from the queue.

    Returns False if the page stays because its transcript is stored or being stored; `even_done`
    removes it anyway.
    """
    return bool(_run("remove", [page_id, int(even_done)]))


def requeue(page_id: str) -> bool:
    """Makes a page wait again, as if it had never been leased. Returns False if it is unknown."""
    return bool(_run("requeue", [page_id]))


def wait_for_result(page: SwarmPage, seconds: float) -> str | None:
    """Waits for the result of a job's page: `done DEVICE`, `aside`, or None after the timeout."""
    row = connection.client().blpop([f"{redis_keys.SWARM}answer:{page.id}"], timeout=seconds)
    return cast("list[str]", row)[1] if row else None


def state(page_id: str) -> dict[str, str]:
    """Returns the hash of a page (see `redis_keys`); it is empty if the page is unknown."""
    return cast("dict[str, str]", connection.client().hgetall(_page(page_id)))


def ids(state: str | None = None, start: int = 0, most: int = 500) -> list[str]:
    """Returns ids of collections' pages, at most `most`, from the 0-based position `start`.

    Without a `state` they are in the order of loading. With `done`, `aside` or `leased`, they are
    in the order of the time since when they are in that state, or at which the lease expires.
    """
    name = redis_keys.SWARM + (_SETS[state] if state else "pages")
    return cast("list[str]", connection.client().zrange(name, start, start + most - 1))


def states(page_ids: Collection[str]) -> list[dict[str, str]]:
    """Returns the hash of each page."""
    with connection.client().pipeline(transaction=False) as pipe:
        for page_id in page_ids:
            pipe.hgetall(_page(page_id))
        return cast("list[dict[str, str]]", pipe.execute())


def counts() -> dict[str, int]:
    """Returns the number of pages in each state, and of transcripts that were ever received.

    `checked` transcripts were cross-checked. `unchecked` ones were selected for that, but there was
    no second client.
    """
    with connection.translated_errors():
        client = connection.client()
        groups = cast("set[str]", client.smembers(f"{redis_keys.SWARM}groups"))
        with client.pipeline(transaction=False) as pipe:
            for group in groups:
                pipe.zcard(f"{redis_keys.SWARM}waiting:{group}")
            for name in ("leases", "done", "aside"):
                pipe.zcard(redis_keys.SWARM + name)
            pipe.hmget(f"{redis_keys.SWARM}stats", _TOTALS)
            *waiting, leased, done, aside, totals = pipe.execute()
    return {
        "waiting": sum(waiting),
        "leased": leased,
        "done": done,
        "aside": aside,
        **{name: int(total or 0) for name, total in zip(_TOTALS, totals, strict=True)},
    }


def count_check(possible: bool) -> None:
    """Counts a cross-check of a transcript, or one that was not possible."""
    name = "checked" if possible else "unchecked"
    connection.client().hincrby(f"{redis_keys.SWARM}stats", name, 1)


def _parts(lease_id: str) -> tuple[str, str]:
    match = _LEASE.fullmatch(lease_id)
    if match is None:
        raise swarm_errors.LeaseUnknown()
    return match[1], match[2]


def _page(page_id: str) -> str:
    return f"{redis_keys.SWARM}page:{page_id}"


def _run(name: str, arguments: Sequence[str | int]) -> Any:
    return connection.run(f"swarm_{name}", [redis_keys.SWARM], arguments)
