"""A worker: Celery's prefork pool, each child in a process group of its own, and three threads.

One looks after what runs here (`caretaker`), one after what is lost anywhere (`reconciler`), and
one sends webhooks (`courier`).
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import socket
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from billiard.pool import EX_RECYCLE
from billiard.process import current_process
from billiard.util import get_logger
from celery.exceptions import SecurityWarning
from celery.signals import (
    setup_logging,
    task_prerun,
    worker_process_init,
    worker_ready,
    worker_shutting_down,
)

from ocr_tasks import extensions, logs, settings
from ocr_tasks.extensions import WorkerRole
from ocr_tasks.jobs import leases, queues
from ocr_tasks.jobs.celery_app import LANES, SHARED_QUEUES, app, name_queue_of_pages
from ocr_tasks.sandbox import orphans, rlimits
from ocr_tasks.storage import layout, store
from ocr_tasks.worker.heartbeat import Caretaker
from ocr_tasks.worker.recovery import Reconciler
from ocr_tasks.worker.webhook_sender import Courier

log = logging.getLogger(__name__)

#: Seconds by which a job may compute beyond its time: ending it in good order comes first.
_CPU_GRACE = 60

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


#: What this worker does for extensions.
_roles: list[WorkerRole] = []


def main(documents: bool = True) -> int:
    """Runs a worker until it is told to stop (SIGTERM, or Ctrl-C).

    `documents`: it takes documents, unless an extension needs it for itself.
    """
    config = settings.get()
    logs.set_up()
    orphans.mark()
    # What Celery says past its own log, such as that it stops, is said by us as well.
    quiet = Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process lives
    sys.__stdout__ = quiet  # type: ignore[misc]  # nobody else writes there
    os.umask(0o077)  # what people send is nobody else's business
    import ocr_tasks.worker.remote_control  # takes the place of Celery's own commands
    import ocr_tasks.worker.tasks  # noqa: F401  # loaded here, so that the children share its memory

    if _porter:
        # Who helps must see the data folder.
        name_queue_of_pages(layout.folder_id())
    names = _choose_queues(documents)
    if not names:
        return 1
    # `celery worker` as a command line would load all of Celery's other commands.
    worker = app.Worker(
        hostname=f"{os.getpid()}@{socket.gethostname()}",
        pool_cls="prefork",
        concurrency=config.processes,
        queues=names,
        loglevel=config.log_level,
        quiet=True,
        without_gossip=True,  # both only cost, and gossip stumbles when Redis restarts
        without_mingle=True,
    )
    # What is loaded stays, and the children share it: nobody looks for garbage there, which Celery
    # does before each fork, and Python at the end.
    gc.freeze()
    gc.enable()
    try:
        worker.start()
    finally:
        _reconciler.stop()
        _courier.stop()
        _caretaker.stop()
    return worker.exitcode or 0


def _choose_queues(documents: bool) -> list[str]:
    """Returns the queues that this worker consumes; none if it has nothing to offer."""
    offers = (extension.worker_role(documents) for extension in extensions.installed())
    _roles[:] = filter(None, offers)
    documents = documents and all(role.documents for role in _roles)
    queues_of_roles = [queue for role in _roles for queue in role.queues]
    _caretaker.offer(_roles, documents)
    if not documents:
        return queues_of_roles
    SHARED_QUEUES[:] = queues_of_roles
    return [*LANES.values(), *SHARED_QUEUES]


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _set_up_logging(loglevel: int = logging.INFO, **_: Any) -> None:
    logs.set_up(loglevel)
    # The caretaker tells of children that died, with their jobs; what the pool says has no handler.
    get_logger().setLevel(logging.CRITICAL)
    # Celery warns that it runs as root, and advises an option that `ocr-tasks` does not have.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # OCRmyPDF's own words go to the log of the job; the libraries below it say too much.
    logging.getLogger("ocrmypdf").propagate = False
    for name, level in (("fontTools", "ERROR"), ("pdfminer", "ERROR"), ("PIL", "INFO")):
        logging.getLogger(name).setLevel(level)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_child(**_: Any) -> None:
    """Lets a child be killed together with the programs it runs, shut in, and keep its memory."""
    os.setpgrp()
    _caretaker.note_birth(os.getpid())
    _shut_in()
    if _porter:
        store.ask_porter(_porter.children_end)
    _go_when_worn_out()
    # A page takes dozens of buffers of some megabytes. Given back and fetched anew each time, they
    # cost 3 % of a page. (mallopt(3); other C libraries than glibc do without.)
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 1 << 30)


def _shut_in() -> None:
    """Takes from a child what reading documents does not need; see `limits`."""
    config = settings.get()
    rlimits.bound(config.worker_memory_bytes, config.worker_file_bytes)
    kept = {name for role in _roles for name in role.environment}
    rlimits.forget_environment({orphans.MARK, *kept})
    if not config.confine:
        return
    shared = [path for one in extensions.installed() for path in one.shared_folders()]
    for path in (layout.all_jobs(), *shared):
        path.mkdir(parents=True, exist_ok=True)
    writable = [layout.all_jobs(), *shared, *(path for role in _roles for path in role.writable)]
    readable = [path for role in _roles for path in role.readable]
    ports = [config.redis_port] if config.redis_port else []
    readable += config.redis_files
    readable += [Path(name).resolve().parent for name in config.plugin_names if "/" in name]
    if not rlimits.confine(writable, config.data_dir, ports, readable):
        log.warning("this kernel cannot shut processes in (Landlock); limits alone hold them")


def _go_when_worn_out() -> None:
    """Has a child that is worn out end, instead of waiting for its next job; another replaces it.

    It is between two jobs then, and one that was sent to it meanwhile goes to another child.
    """
    process = current_process()._target  # billiard's loop, which takes its methods from here
    wait = process.wait_for_job

    def wait_or_end() -> Any:
        if rlimits.worn_out():
            sys.exit(EX_RECYCLE)
        return wait()

    process.wait_for_job = wait_or_end


@task_prerun.connect  # type: ignore[untyped-decorator]
def _start_job(**_: Any) -> None:
    """Bounds what a job computes, should the worker not live to end it when its time is over."""
    rlimits.allow_cpu((settings.get().job_seconds + _CPU_GRACE) * settings.cores())


def _look_after(job_id: str) -> None:
    """Deletes what was put for a job that was deleted meanwhile."""
    if leases.deleted(job_id):
        store.get().delete(job_id)


_porter = store.porter()
_caretaker = Caretaker()
_reconciler = Reconciler()
_courier = Courier()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _on_ready(sender: Any, **_: Any) -> None:
    _caretaker.look_after(sender)
    _reconciler.begin()
    if _porter:
        _porter.begin(_look_after)
    if settings.get().send_webhooks:
        _courier.begin()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_shutting_down(**_: Any) -> None:
    log.info("stopping; running jobs have %d seconds", settings.get().stop_seconds)
    queues.stop()
    _caretaker.end_within(settings.get().stop_seconds)
