"""A worker: Celery's prefork pool, each child in a process group of its own, and a caretaker.

The caretaker is a thread of the worker's main process. Twice a second it looks after the jobs that
run here: one that was cancelled or deleted meanwhile is killed with everything it started, and what
a killed one left is swept. Every few seconds it says that the worker lives.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil
from celery.signals import setup_logging, worker_process_init, worker_ready, worker_shutting_down
from celery.worker import state as celery_state
from redis import RedisError

from ocr_tasks import document, jobs, settings, storage, workers
from ocr_tasks.app import LANES, READ_PAGES, app
from ocr_tasks.model import WorkerInfo
from ocr_tasks.options import INTERNAL_LANGUAGES
from ocr_tasks.plugin import engine

log = logging.getLogger("ocr_tasks.worker")

#: Seconds between two looks at the jobs that run, and between two signs of life.
LOOK_INTERVAL = 0.5
ANNOUNCE_INTERVAL = 5.0

#: Ends of a pipe on which each child of the pool tells its process id, in 8 bytes, as it starts.
_births = os.pipe()
os.set_blocking(_births[0], False)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def main() -> int:
    """Runs a worker until it is told to stop (SIGTERM, or Ctrl-C)."""
    config = settings.get()
    # Celery then gives running jobs back after worker_soft_shutdown_timeout seconds, instead of
    # waiting for them without end.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    import ocr_tasks.tasks  # noqa: F401  # loaded here, so that the children share its memory

    arguments = [
        *("--quiet", "worker", "--pool=prefork", f"--concurrency={config.processes}"),
        *(
            "--queues",
            ",".join(LANES.values()),
            "--hostname",
            f"{os.getpid()}@{socket.gethostname()}",
        ),
        # Both only cost, and gossip stumbles when Redis restarts.
        *("--without-gossip", "--without-mingle", f"--loglevel={config.log_level}"),
    ]
    try:
        app.worker_main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        _caretaker.stop()
    return 0


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _set_up_logging(loglevel: int = logging.INFO, **_: Any) -> None:
    logging.basicConfig(
        level=loglevel,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s",
    )
    # OCRmyPDF's own words go to the log of the job; the libraries below it say too much.
    logging.getLogger("ocrmypdf").propagate = False
    for name, level in (("fontTools", "ERROR"), ("pdfminer", "ERROR"), ("PIL", "INFO")):
        logging.getLogger(name).setLevel(level)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_child(**_: Any) -> None:
    """Lets a child be killed together with the programs it runs, and keep its memory."""
    os.setpgrp()
    os.write(_births[1], os.getpid().to_bytes(8))
    # A page takes dozens of buffers of some megabytes. Given back and fetched anew each time, they
    # cost 3 % of a page. (mallopt(3); other C libraries than glibc do without.)
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 1 << 30)


class Caretaker(threading.Thread):
    """Looks after the jobs of this worker; see the module."""

    def __init__(self) -> None:
        super().__init__(name="caretaker", daemon=True)
        self._stopped = threading.Event()
        self._consumer: Any = None
        self._children: set[int] = set()
        self._jobs: set[str] = set()
        self._gone: set[str] = set()
        self._announced_at = 0.0
        self._info: WorkerInfo | None = None

    def look_after(self, consumer: Any) -> None:
        """Starts, once Celery's consumer is ready."""
        self._consumer = consumer
        if not self.is_alive():
            self.start()

    def run(self) -> None:
        while not self._stopped.wait(LOOK_INTERVAL):
            try:
                self._note_children()
                self._look()
                self._announce()
            except RedisError as error:
                log.warning("Redis is away: %s", error)

    def stop(self) -> None:
        """Says good-bye and kills what the children left running."""
        if self._stopped.is_set() or not self.is_alive():
            return
        self._stopped.set()
        self.join(timeout=5)
        for pid in self._children:
            _kill_group(pid)
        try:
            if self._info:
                workers.leave(self._info.name)
        except RedisError:
            pass  # the sign of life runs out by itself

    def _note_children(self) -> None:
        """Remembers the pool's children, and kills what one that died has left running."""
        with suppress(BlockingIOError):
            while born := os.read(_births[0], 8):
                self._children.add(int.from_bytes(born))
        present = {child.pid for child in psutil.Process().children()}
        for pid in self._children - present:
            _kill_group(pid)
        self._children &= present

    def _look(self) -> None:
        requests = {request: _job_of(request) for request in list(celery_state.active_requests)}
        running = set(requests.values())
        self._gone |= self._jobs - running
        self._jobs = running
        ended = jobs.ended([*running, *self._gone])
        for request, job_id in requests.items():
            if job_id in ended:
                self._consumer.hub.call_soon(self._kill, request)
        # A process that is being killed may still write for a moment: swept until nothing is left.
        self._gone = {job_id for job_id in ended & self._gone if not _sweep(job_id)}

    def _kill(self, request: Any) -> None:
        """Runs in Celery's event loop: ends a request and everything that runs for it."""
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
            self._info = _describe()
        workers.announce(self._info)
        self._announced_at = now


def _job_of(request: Any) -> str:
    """The job that a request works for, as its owner or as a helper."""
    return str(request.args[0]) if request.name == READ_PAGES else str(request.id)


def _describe() -> WorkerInfo:
    return WorkerInfo(
        name=f"{socket.gethostname()}:{os.getpid()}",
        processes=settings.get().processes,
        languages=sorted(engine.languages() - INTERNAL_LANGUAGES),
        versions=document.versions(),
    )


def _sweep(job_id: str) -> bool:
    """Deletes what a run that was killed left behind, and all files if the job was deleted.

    False: something is still there.
    """
    path = storage.job(job_id).path
    leftover = path if jobs.deleted(job_id) else path / "work"
    storage.discard(leftover)
    return not leftover.exists()


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
        os.killpg(pid, signal.SIGKILL)


_caretaker = Caretaker()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _on_ready(sender: Any, **_: Any) -> None:
    _caretaker.look_after(sender)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_shutting_down(**_: Any) -> None:
    log.info("stopping; running jobs have %d seconds", settings.get().stop_seconds)
