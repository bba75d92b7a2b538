"""Which jobs work on a workspace, or wait for it."""

from __future__ import annotations

from ocr_tasks import keys, redis_client


def open_jobs(workspace_key: str) -> int:
    """The number of jobs on the workspace with this key that have not ended.

    Raises:
        errors.QueueUnavailable
    """
    with redis_client.errors_as_ours():
        return int(redis_client.client().scard(keys.ocrd_open(workspace_key)))
