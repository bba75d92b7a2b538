"""What a worker does when Celery's remote control asks for the end of a task, as Flower does.

Celery's own `revoke` marks an id in the memory of each worker, for hours, without a look at what
the job is at: one that runs goes on, and one that is run again later is dropped. So the ids of jobs
are cancelled here as by the API, for good.
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

#: What is answered of an id.
_CANCELLED, _ENDED, _HELPS = "cancelled", "has ended before", "helps job {}; cancel that"
_UNKNOWN = "no job"


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def revoke(state: Any, task_id: str | Sequence[str], **_: Any) -> dict[str, str]:
    """Cancels jobs, given by their ids; what runs for them is killed, asked for or not."""
    return _cancel_all(state, task_id)


@control_command(variadic="task_id", signature="<signal> [id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def terminate(state: Any, signal: str, task_id: str | Sequence[str], **_: Any) -> dict[str, str]:
    """The same."""
    return _cancel_all(state, task_id)


def _cancel_all(state: Any, task_id: str | Sequence[str]) -> dict[str, str]:
    try:
        said = {str(name): _cancel(str(name)) for name in maybe_list(task_id) or []}
    except errors.QueueUnavailable as error:
        return dict(nok(error.title))
    for name, answer in said.items():
        log.info("Celery's remote control asked for the end of %s: %s", name, answer)
        if answer == _CANCELLED:
            # Flower goes by events; of a job that waits there would be none until it is its turn.
            state.consumer.event_dispatcher.send(
                "task-revoked", uuid=name, terminated=False, signum=None, expired=False
            )
    return dict(ok("; ".join(f"{name}: {answer}" for name, answer in said.items())))


def _cancel(task_id: str) -> str:
    """Cancels a job of either kind, and says what came of it."""
    helper = next((r for r in celery_state.requests.values() if r.id == task_id), None)
    if helper is not None and helper.name == READ_PAGES:
        # Killing it would cost the page one of the readers that it may lose.
        return _HELPS.format(helper.args[0])
    try:
        try:
            lifecycle.cancel(task_id)
        except errors.JobNotFound:
            if not any(one.cancel(task_id) for one in extensions.installed()):
                return _UNKNOWN
    except errors.JobEnded:
        return _ENDED  # or another worker was faster: all of them are asked
    except errors.JobDeleted:
        return _UNKNOWN
    return _CANCELLED
