"""The maintenance thread of a worker's main process.

Twice a second it requeues the jobs of child processes that have died, and kills the process groups
of jobs that were cancelled or deleted. It renews the leases of running jobs. Every five seconds it
announces the worker, and kills processes that lost workers on this host left running.
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

#: Seconds between two checks of the running jobs, normally and in a worker that is being stopped.
CHECK_INTERVAL = 0.5
STOP_INTERVAL = 0.05

#: Seconds between two announcements of the worker.
ANNOUNCE_INTERVAL = 5.0

#: Seconds after which a worker exits whose pool does not end although its children were killed.
_STOP_GRACE = 4.0

#: Final states that are written by the process that runs the job, just before it ends by itself.
_ENDED_BY_RUN = ("succeeded", "failed")

#: Renewals of a lease during OCR_LEASE_SECONDS.
_RENEWALS = 5


class MaintenanceThread(threading.Thread):
    """Maintains the leases and processes of this worker's jobs; see the module."""

    def __init__(self) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._stopped = threading.Event()
        self._consumer: Any = None
        #: Ends of a pipe to which each child of the pool writes its process id, in 8 bytes.
        self._new_children = os.pipe()
        os.set_blocking(self._new_children[0], False)
        #: Ends of a pipe whose data wakes Celery's event loop.
        self._wakeup = os.pipe()
        #: Process ids of the children of the pool.
        self._children: set[int] = set()
        #: The job that each child owns, by its process id.
        self._owned: dict[int, str] = {}
        #: Jobs that run here (owned or helped), and jobs that ran here and may have left files.
        self._jobs: set[str] = set()
        self._gone: set[str] = set()
        #: Requests whose jobs had ended at the previous check.
        self._ended_requests: set[Any] = set()
        #: When a worker that is being stopped kills its children, by the monotonic clock.
        self._deadline = math.inf
        self._renewed_at = 0.0
        self._announced_at = 0.0
        self._info: WorkerInfo | None = None
        self._roles: Sequence[WorkerRole] = ()
        self._documents = True

    def register_child(self, pid: int) -> None:
        """Registers a child of the pool. Called in the child when it starts."""
        os.write(self._new_children[1], pid.to_bytes(8))

    def begin(self, consumer: Any) -> None:
        """Starts the thread, or replaces its consumer, when Celery's consumer is ready."""
        self._consumer = consumer
        consumer.hub.add_reader(self._wakeup[0], os.read, self._wakeup[0], 1)
        if not self.is_alive():
            self.start()

    def offer(self, roles: Sequence[WorkerRole], documents: bool = True) -> None:
        """Sets what is announced: the worker's roles, and whether it processes documents."""
        self._roles, self._documents = roles, documents

    def end_within(self, seconds: float) -> None:
        """Makes the thread kill the children after `seconds`, and requeue their jobs.

        Celery would wait for them without a limit.
        """
        self._deadline = time.monotonic() + seconds
        os.write(self._wakeup[1], b"!")  # otherwise the event loop could take a second to react

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._handle_deaths()
                self._enforce_deadline()
                self._check_jobs()
                self._announce()
            except (RedisError, errors.QueueUnavailable) as error:
                log.warning("Redis is unavailable: %s", error)
                worker_registry.touch_alive_file()  # restarting the worker would not help
            except Exception:  # keep running: without this thread all leases expire
                log.exception("could not check the running jobs")
            self._stopped.wait(STOP_INTERVAL if queues.stopping() else CHECK_INTERVAL)

    def stop(self) -> None:
        """Kills all children, requeues their jobs, and removes the worker from the registry."""
        if self._stopped.is_set() or not self.is_alive():
            return
        self._stopped.set()
        self.join(timeout=5)
        self._requeue_all()

    def _requeue_all(self) -> None:
        for pid in self._children:
            _kill_group(pid)
        try:
            for pid, job_id in self._owned.items():
                leases.release(job_id, _holder(pid))
            if self._info:
                worker_registry.unregister(self._info.name)
        except (RedisError, errors.QueueUnavailable):
            pass  # the leases and the entry in the registry expire

    def _handle_deaths(self) -> None:
        """Kills the process groups of children that have died, and requeues their jobs."""
        with suppress(BlockingIOError):
            while data := os.read(self._new_children[0], 8):
                self._children.add(int.from_bytes(data))
        for pid in self._children - _alive():
            _kill_group(pid)
            # Asks Redis, because the job may have been acquired after the previous check.
            for job_id in leases.held_by(_holder(pid)):
                # While the worker is being stopped, deaths are not caused by jobs.
                if leases.release(job_id, _holder(pid), lost=not queues.stopping()):
                    log.warning("process %d died; job %s is queued again", pid, job_id)
            self._children.discard(pid)
            self._owned.pop(pid, None)

    def _enforce_deadline(self) -> None:
        late = time.monotonic() - self._deadline
        # Idle children are killed too, because they take a second to notice the end of the pool. An
        # open pool would replace them. A pool that has ended is None.
        pool = self._consumer.pool._pool
        closed = pool is None or pool._state != RUN
        if late >= 0 or (closed and not celery_state.reserved_requests):
            for pid in self._children:
                _kill_group(pid)
        if late > _STOP_GRACE:
            log.error("the worker did not stop in time; exiting")
            self._requeue_all()
            os._exit(1)

    def _check_jobs(self) -> None:
        """Renews leases, and kills and cleans up after the runs of jobs that have ended."""
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
        overdue = self._ended_requests
        self._ended_requests = {request for request, job_id in requests.items() if job_id in ended}
        for request in self._ended_requests:
            # A run that has just written its final state ends by itself before the next check.
            if ended[requests[request]] not in _ENDED_BY_RUN or request in overdue:
                self._consumer.hub.call_soon(self._kill, request)
        # Repeated until nothing is left, because a process that is being killed may still write for
        # a moment. The logs of extensions' jobs are always stored on this host.
        scratch = not (store.get().in_folder or self._roles)
        gone = self._gone.intersection(ended)
        self._gone = {job_id for job_id in gone if not _sweep(job_id, scratch)}

    @staticmethod
    def _ended(job_ids: Sequence[str]) -> dict[str, str | None]:
        """Returns the states of those of the jobs that have ended or are unknown (None)."""
        states = leases.states(job_ids)
        return {job_id: state for job_id, state in states.items() if state not in leases.OPEN}

    def _renew(self) -> None:
        now = time.monotonic()
        if now - self._renewed_at >= settings.get().lease_seconds / _RENEWALS:
            leases.renew({job_id: _holder(pid) for pid, job_id in self._owned.items()})
            self._renewed_at = now

    def _kill(self, request: Any) -> None:
        """Kills the processes of a request. Runs in Celery's event loop."""
        if request not in celery_state.active_requests:
            return  # it has ended, and its process may already have another request
        pid = request.worker_pid
        request.terminate(self._consumer.pool, signal="SIGKILL")
        if pid:
            _kill_group(pid)
        log.info("killed the processes of job %s, which has ended", _job_of(request))

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
        # Called by Celery's event loop, because a worker whose loop is stuck receives no tasks.
        self._consumer.hub.call_soon(worker_registry.touch_alive_file)
        if killed := orphans.kill():
            log.warning("killed processes of a lost worker: %s", ", ".join(killed))


def _alive() -> set[int]:
    """Returns the process ids of the live children of this process.

    Celery notices a death only when the last program that the child started has ended, because
    these programs keep the child's end of a pipe open. Until then the child is a zombie.
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
    """Returns the id of the job that a request works for, as its owner or as a helper."""
    return str(request.args[0]) if request.name == READ_PAGES else str(request.id)


def _describe(roles: Sequence[WorkerRole], documents: bool) -> WorkerInfo:
    info = WorkerInfo(
        name=f"{socket.gethostname()}:{os.getpid()}", processes=settings.get().processes
    )
    for role in roles:
        info = replace(info, **role.info)
    if not documents:
        return info
    return replace(
        info,
        languages=sorted(engine.languages() - INTERNAL_LANGUAGES),
        versions=document.versions(),
        folder="" if store.get().in_folder else layout.folder_id(),
    )


def _sweep(job_id: str, scratch: bool) -> bool:
    """Deletes the work folder of a job that has ended, or its whole folder if it was deleted.

    With `scratch`, the data folder has only temporary copies, and the whole folder is deleted in
    any case. Returns whether nothing is left.
    """
    path = layout.job(job_id).path
    all_files = scratch or leases.is_deleted(job_id)
    leftover = path if all_files else path / "work"
    layout.delete_tree(leftover)
    return not leftover.exists()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group has ended
        os.killpg(pid, signal.SIGKILL)
