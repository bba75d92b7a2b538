"""Replacements for the remote control commands `revoke` and `terminate`, which Flower sends.

Celery's own commands keep an id in the memory of each worker for hours, without checking the state
of the job: a running job continues, and a job that is retried later is dropped. These commands
cancel jobs permanently, like the API.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery.utils.functional import maybe_list
from celery.worker import state as celery_state
from celery.worker.control import control_command, nok, ok

from ocr_tasks import errors, extensions
from ocr_tasks.jobs import lifecycle
from ocr_tasks.jobs.celery_app import READ_PAGES

log = logging.getLogger(__name__)

#: Replies for an id.
_CANCELLED, _ENDED, _HELPS = "cancelled", "has already ended", "helps job {}; cancel that job"
_UNKNOWN = "unknown job"


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def revoke(state: Any, task_id: str | Sequence[str], **_: Any) -> dict[str, str]:
    """Cancels jobs, given by their ids. Their processes are killed, with or without `terminate`."""
    return _cancel_all(state, task_id)


@control_command(variadic="task_id", signature="<signal> [id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def terminate(state: Any, signal: str, task_id: str | Sequence[str], **_: Any) -> dict[str, str]:
    """Does the same as `revoke`."""
    return _cancel_all(state, task_id)


def _cancel_all(state: Any, task_id: str | Sequence[str]) -> dict[str, str]:
    try:
        replies = {str(name): _cancel(str(name)) for name in maybe_list(task_id) or []}
    except errors.QueueUnavailable as error:
        return dict(nok(error.title))
    for name, reply in replies.items():
        log.info("remote control requested to cancel %s: %s", name, reply)
        if reply == _CANCELLED:
            # For Flower, which only knows events. Celery would not send one before the job's turn.
            state.consumer.event_dispatcher.send(
                "task-revoked", uuid=name, terminated=False, signum=None, expired=False
            )
    return dict(ok("; ".join(f"{name}: {reply}" for name, reply in replies.items())))


def _cancel(task_id: str) -> str:
    """Cancels a job of a document or of an extension, and returns the reply for it."""
    helper = next((r for r in celery_state.requests.values() if r.id == task_id), None)
    if helper is not None and helper.name == READ_PAGES:
        # Killing a helper would count as one of the lost leases that its page may have.
        return _HELPS.format(helper.args[0])
    try:
        try:
            lifecycle.cancel(task_id)
        except errors.JobNotFound:
            if not any(one.cancel(task_id) for one in extensions.installed()):
                return _UNKNOWN
    except errors.JobEnded:
        return _ENDED  # or another worker was faster, because all workers receive the command
    except errors.JobDeleted:
        return _UNKNOWN
    return _CANCELLED
