"""Locks on workspaces: only one process at a time writes a METS file."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import redis

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import redis_keys
from ocr_tasks.redis import connection

#: Seconds until a lease expires, unless it is renewed.
LEASE_SECONDS = 15.0
#: Seconds to wait for a lease; each holder needs a fraction of a second.
WAIT_SECONDS = 300.0

_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class MetsLease:
    """A lease on the METS file of a workspace."""

    key: str
    token: str

    def renew(self) -> None:
        """Renews the lease; called right before the file is written.

        Raises ocrd_errors.ProcessorFailed if the lease has expired.
        """
        with connection.translated_errors():
            if not self._run("renew"):
                raise ocrd_errors.ProcessorFailed(
                    "Another process wrote the METS file while the output was being added."
                )

    def _run(self, what: str) -> bool:
        arguments = (self.token, what, int(LEASE_SECONDS * 1000))
        return bool(connection.run("mets_lease", [redis_keys.mets_lease(self.key)], arguments))


@contextmanager
def mets_lease(key: str) -> Iterator[MetsLease]:
    """Holds the lease on the METS file of the workspace with this key (`workspaces.key`).

    Waits up to `WAIT_SECONDS` for it, then raises ocrd_errors.ProcessorFailed.
    """
    lease = MetsLease(key, secrets.token_hex(16))
    deadline = time.monotonic() + WAIT_SECONDS
    with connection.translated_errors():
        while not lease._run("acquire"):
            if time.monotonic() > deadline:
                raise ocrd_errors.ProcessorFailed(
                    "The METS file was locked by another process for too long."
                )
            time.sleep(_PAUSE)
    try:
        yield lease
    finally:
        with suppress(redis.RedisError):  # it expires
            lease._run("release")


def open_jobs(key: str) -> int:
    """Returns the number of jobs of a workspace that have not ended."""
    with connection.translated_errors():
        return int(connection.client().scard(redis_keys.open_jobs(key)))
