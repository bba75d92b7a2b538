"""Who works on a workspace: one at a time writes its METS file."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis

from ocr_tasks import errors
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.redis import connection

#: Seconds for which the METS file belongs to one, counted anew by `MetsLease.keep`.
LEASE = 15.0
#: Seconds that one waits for it; those before need a fraction of a second each.
PATIENCE = 300.0

_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class MetsLease:
    """The right to write the METS file of a workspace, for a while."""

    key: str
    token: str

    def keep(self) -> None:
        """Makes sure, right before the file is written, that it is this one's to write."""
        with connection.translated_errors():
            if not self._ask("keep"):
                raise errors.ProcessorFailed(
                    "Another process wrote the METS file while the output was being added."
                )

    def _ask(self, what: str) -> bool:
        arguments = (self.token, what, int(LEASE * 1000))
        return bool(connection.run("mets_lease", [redis_keys.mets_lease(self.key)], arguments))


@contextmanager
def mets_lease(key: str) -> Iterator[MetsLease]:
    """Keeps others from writing the METS file of the workspace with this key (`workspaces.key`)."""
    lease = MetsLease(key, secrets.token_hex(16))
    deadline = time.monotonic() + PATIENCE
    with connection.translated_errors():
        while not lease._ask("take"):
            if time.monotonic() > deadline:
                raise errors.ProcessorFailed(
                    "The METS file was locked by another process for too long."
                )
            time.sleep(_PAUSE)
    try:
        yield lease
    finally:
        with suppress(redis.RedisError):  # it runs out by itself
            lease._ask("leave")


def open_jobs(key: str) -> int:
    """How many jobs of the workspace with this key have not ended."""
    with connection.translated_errors():
        return int(connection.client().scard(redis_keys.open_jobs(key)))
