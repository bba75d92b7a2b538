"""A thread of a worker's main process that looks after the jobs that run here.

Several times a second it renews their leases, gives those back whose process has died, and kills
what still runs for a job that was cancelled or deleted, with everything that it started. Every few
seconds it says that the worker lives, and looks for what a dead one on this host left running.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psutil
from billiard.pool import RUN
from celery.worker import state as celery_state
from redis import RedisError

from ocr_tasks import errors, extensions, settings
from ocr_tasks.extensions import WorkerRole
from ocr_tasks.jobs import leases, queues, worker_registry
from ocr_tasks.jobs.celery_app import READ_PAGES
from ocr_tasks.model import WorkerInfo
from ocr_tasks.options import INTERNAL_LANGUAGES
from ocr_tasks.pipeline import document
from ocr_tasks.plugin import engine
from ocr_tasks.sandbox import orphans
from ocr_tasks.storage import layout, store

log = logging.getLogger(__name__)

#: Seconds between two looks at the jobs that run, and between two signs of life.
LOOK_INTERVAL = 0.5
#: The same in a worker that is being stopped.
STOP_INTERVAL = 0.05
ANNOUNCE_INTERVAL = 5.0

#: Seconds after which a worker whose children were killed is ended by force.
_STOP_GRACE = 4.0

#: How a job ends whose process comes to its end by itself.
_DONE = ("succeeded", "failed")

#: Leases are renewed so many times in the time that they last.
_RENEWALS = 5


class Caretaker(threading.Thread):
    """Looks after the jobs of this worker; see the module."""

    def __init__(self) -> None:
        super().__init__(name="caretaker", daemon=True)
        self._stopped = threading.Event()
        self._consumer: Any = None
        #: Ends of a pipe on which each child of the pool tells its process id, in 8 bytes.
        self._births = os.pipe()
        os.set_blocking(self._births[0], False)
        #: Ends of a pipe whose data wakes Celery's event loop.
        self._alarm = os.pipe()
        self._children: set[int] = set()
        #: The job that each child owns, by its process id.
        self._owned: dict[int, str] = {}
        self._jobs: set[str] = set()
        self._gone: set[str] = set()
        #: Requests whose jobs had ended at the last look.
        self._done: set[Any] = set()
        #: When a worker that is being stopped ends what still runs, by the monotonic clock.
        self._deadline = math.inf
        self._renewed_at = 0.0
        self._announced_at = 0.0
        self._info: WorkerInfo | None = None
        self._roles: Sequence[WorkerRole] = ()
        self._documents = True

    def note_birth(self, pid: int) -> None:
        """Tells of a child of the pool; to be called in that child, as it starts."""
        os.write(self._births[1], pid.to_bytes(8))

    def look_after(self, consumer: Any) -> None:
        """Starts, once Celery's consumer is ready."""
        self._consumer = consumer
        consumer.hub.add_reader(self._alarm[0], os.read, self._alarm[0], 1)
        if not self.is_alive():
            self.start()

    def offer(self, roles: Sequence[WorkerRole], documents: bool = True) -> None:
        """Announces what the worker does for extensions, and whether it takes documents."""
        self._roles, self._documents = roles, documents

    def end_within(self, seconds: float) -> None:
        """Has what runs here so many seconds to come to an end; then it is killed and given back.

        Celery itself would wait for it without end.
        """
        self._deadline = time.monotonic() + seconds
        os.write(self._alarm[1], b"!")  # else it could take a second to notice

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._note_deaths()
                self._keep_deadline()
                self._look()
                self._announce()
            except (RedisError, errors.QueueUnavailable) as error:
                log.warning("Redis is away: %s", error)
                worker_registry.show_alive()  # a worker that is restarted would not find it either
            except Exception:  # the next look may go better; without any, all leases run out
                log.exception("a look at the running jobs failed")
            self._stopped.wait(STOP_INTERVAL if queues.stopping() else LOOK_INTERVAL)

    def stop(self) -> None:
        """Kills what still runs here, gives its jobs back, and says good-bye."""
        if self._stopped.is_set() or not self.is_alive():
            return
        self._stopped.set()
        self.join(timeout=5)
        self._give_all_back()

    def _give_all_back(self) -> None:
        for pid in self._children:
            _kill_group(pid)
        try:
            for pid, job_id in self._owned.items():
                leases.give_back(job_id, _holder(pid))
            if self._info:
                worker_registry.leave(self._info.name)
        except (RedisError, errors.QueueUnavailable):
            pass  # leases and the sign of life run out by themselves

    def _note_deaths(self) -> None:
        """Kills what a child that died has left running, and gives its job back."""
        with suppress(BlockingIOError):
            while born := os.read(self._births[0], 8):
                self._children.add(int.from_bytes(born))
        for pid in self._children - _alive():
            _kill_group(pid)
            # Redis knows of a job that was claimed since the last look.
            for job_id in leases.held_by(_holder(pid)):
                # In a worker that is being stopped it is no fault of the job.
                if leases.give_back(job_id, _holder(pid), lost=not queues.stopping()):
                    log.warning("process %d died; job %s is queued again", pid, job_id)
            self._children.discard(pid)
            self._owned.pop(pid, None)

    def _keep_deadline(self) -> None:
        late = time.monotonic() - self._deadline
        # Idle children would take a second to notice that they are to end. Until the pool is closed
        # it would replace them; once it has ended, it is None.
        pool = self._consumer.pool._pool
        closed = pool is None or pool._state != RUN
        if late >= 0 or (closed and not celery_state.reserved_requests):
            for pid in self._children:
                _kill_group(pid)
        if late > _STOP_GRACE:
            log.error("the worker does not end by itself")
            self._give_all_back()
            os._exit(1)

    def _look(self) -> None:
        requests = {request: _job_of(request) for request in list(celery_state.active_requests)}
        self._owned = {
            request.worker_pid: job_id
            for request, job_id in requests.items()
            if request.name != READ_PAGES and request.worker_pid in self._children
        }
        self._renew()
        running = set(requests.values())
        self._gone |= self._jobs - running
        self._jobs = running
        ended = self._ended([*running, *self._gone])
        late = set(self._done)
        self._done = {request for request, job_id in requests.items() if job_id in ended}
        for request in self._done:
            # One that has just ended well is about to say so; at the next look it should be gone.
            if ended[requests[request]] not in _DONE or request in late:
                self._consumer.hub.call_soon(self._kill, request)
        # A process that is being killed may still write for a moment: swept until nothing is left.
        # The logs of extensions' jobs are kept here in any case.
        scratch = not (store.get().in_folder or self._roles)
        gone = self._gone.intersection(ended)
        self._gone = {job_id for job_id in gone if not _sweep(job_id, scratch)}

    @staticmethod
    def _ended(job_ids: Sequence[str]) -> dict[str, str | None]:
        """Those of the jobs that have ended, or that nobody knows, with their states."""
        states = leases.states(job_ids)
        return {job_id: state for job_id, state in states.items() if state not in leases.OPEN}

    def _renew(self) -> None:
        now = time.monotonic()
        if now - self._renewed_at >= settings.get().lease_seconds / _RENEWALS:
            leases.renew({job_id: _holder(pid) for pid, job_id in self._owned.items()})
            self._renewed_at = now

    def _kill(self, request: Any) -> None:
        """Runs in Celery's event loop: ends a request and everything that runs for it."""
        if request not in celery_state.active_requests:
            return  # it has come to its end; its process may be at something else already
        pid = request.worker_pid
        request.terminate(self._consumer.pool, signal="SIGKILL")
        if pid:
            _kill_group(pid)
        log.info("killed what ran for job %s, which has ended", _job_of(request))

    def _announce(self) -> None:
        now = time.monotonic()
        if now - self._announced_at < ANNOUNCE_INTERVAL and self._info:
            return
        if self._info is None:
            self._info = _describe(self._roles, self._documents)
        worker_registry.announce(replace(self._info, busy=len(celery_state.active_requests)))
        for extension in extensions.installed():
            extension.announce()
        self._announced_at = now
        # By Celery's event loop: one that is stuck takes no tasks.
        self._consumer.hub.call_soon(worker_registry.show_alive)
        if killed := orphans.kill():
            log.warning("killed what a lost worker had left running: %s", ", ".join(killed))


def _alive() -> set[int]:
    """The children of this process that have not died.

    Celery learns of a death only when the last program that the child started has ended, as these
    keep the child's end of a pipe open; until then the child is a zombie.
    """
    children = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                children.add(child.pid)
    return children


def _holder(pid: int) -> str:
    return leases.holder(os.getpid(), pid)


def _job_of(request: Any) -> str:
    """The job that a request works for, as its owner or as a helper."""
    return str(request.args[0]) if request.name == READ_PAGES else str(request.id)


def _describe(roles: Sequence[WorkerRole], documents: bool) -> WorkerInfo:
    found = WorkerInfo(
        name=f"{socket.gethostname()}:{os.getpid()}", processes=settings.get().processes
    )
    for role in roles:
        found = replace(found, **role.info)
    if not documents:
        return found
    return replace(
        found,
        languages=sorted(engine.languages() - INTERNAL_LANGUAGES),
        versions=document.versions(),
        folder="" if store.get().in_folder else layout.folder_id(),
    )


def _sweep(job_id: str, scratch: bool) -> bool:
    """Deletes what a run that was killed left behind, and all files if the job was deleted.

    `scratch`: all files of a job that does not run here any more are. False: something is still
    there.
    """
    path = layout.job(job_id).path
    whole = scratch or leases.deleted(job_id)
    leftover = path if whole else path / "work"
    layout.discard(leftover)
    return not leftover.exists()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
        os.killpg(pid, signal.SIGKILL)
