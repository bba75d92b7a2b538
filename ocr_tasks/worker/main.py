"""The main process of a worker: Celery's prefork pool and maintenance threads.

`maintenance` renews the leases of the jobs that run here, `recovery` requeues jobs that were lost
anywhere, and `webhook_sender` sends webhooks. Each child of the pool is sandboxed, and leads its
own process group, so it can be killed together with the programs that it started. If jobs are
stored in a bucket, another thread transfers objects for the children (`storage.broker`).
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
from ocr_tasks.jobs.celery_app import EXTENSION_QUEUES, QUEUES, app, use_helper_queue_of
from ocr_tasks.sandbox import orphans, rlimits
from ocr_tasks.storage import layout, store
from ocr_tasks.worker.maintenance import MaintenanceThread
from ocr_tasks.worker.recovery import RecoveryThread
from ocr_tasks.worker.webhook_sender import WebhookSender

log = logging.getLogger(__name__)

#: CPU seconds per core that a job may use beyond OCR_JOB_SECONDS. The kernel kills it after that,
#: if the worker has not ended it before.
_CPU_GRACE = 60

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


#: The roles of this worker for extensions.
_roles: list[WorkerRole] = []


def main(documents: bool = True) -> int:
    """Runs a worker until it receives SIGTERM or SIGINT; returns the exit code.

    With `documents`, it consumes the queues of documents, unless an extension's role excludes them.
    """
    config = settings.get()
    logs.set_up()
    orphans.mark()
    # Discards what Celery prints instead of logging, e.g. that it stops. This module logs it.
    quiet = Path(os.devnull).open("w")  # noqa: SIM115  # open as long as the process runs
    sys.__stdout__ = quiet  # type: ignore[misc]  # only Celery uses it
    os.umask(0o077)  # documents must not be readable by other users
    import ocr_tasks.worker.remote_control  # replaces Celery's commands
    import ocr_tasks.worker.tasks  # noqa: F401  # loaded before the forks, to share its memory

    if _broker:
        # Only workers with the same data folder can help with a document.
        use_helper_queue_of(layout.folder_id())
    names = _choose_queues(documents)
    if not names:
        log.error("this worker has nothing to do")
        return 1
    # Not started by Celery's command line, which would load all of Celery's commands.
    worker = app.Worker(
        hostname=f"{os.getpid()}@{socket.gethostname()}",
        pool_cls="prefork",
        concurrency=config.processes,
        queues=names,
        loglevel=config.log_level,
        quiet=True,
        without_gossip=True,  # both are not needed, and gossip fails when Redis restarts
        without_mingle=True,
    )
    # Excludes loaded modules from garbage collection, so children keep sharing their memory. Celery
    # would collect before each fork, and Python at exit.
    gc.freeze()
    gc.enable()
    try:
        worker.start()
    finally:
        _recovery.stop()
        _webhook_sender.stop()
        _maintenance.stop()
    return worker.exitcode or 0


def _choose_queues(documents: bool) -> list[str]:
    """Returns the queues that this worker consumes; none if there is no work for it."""
    offers = (extension.worker_role(documents) for extension in extensions.installed())
    _roles[:] = filter(None, offers)
    documents = documents and all(role.documents for role in _roles)
    queues_of_roles = [queue for role in _roles for queue in role.queues]
    _maintenance.offer(_roles, documents)
    if not documents:
        return queues_of_roles
    EXTENSION_QUEUES[:] = queues_of_roles
    return [*QUEUES.values(), *EXTENSION_QUEUES]


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _set_up_logging(loglevel: int = logging.INFO, **_: Any) -> None:
    logs.set_up(loglevel)
    # Silences the pool. The maintenance thread logs children that died, with their jobs.
    get_logger().setLevel(logging.CRITICAL)
    # Celery warns that it runs as root, and suggests an option that `ocr-tasks` does not have.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # OCRmyPDF's messages go to the log of the job; its libraries are too verbose.
    logging.getLogger("ocrmypdf").propagate = False
    for name, level in (("fontTools", "ERROR"), ("pdfminer", "ERROR"), ("PIL", "INFO")):
        logging.getLogger(name).setLevel(level)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_child(**_: Any) -> None:
    """Prepares a child of the pool: its process group and priority, sandbox and allocator."""
    os.setpgrp()
    os.nice(settings.get().worker_nice)
    _maintenance.register_child(os.getpid())
    _sandbox()
    if _broker:
        store.use_broker(_broker.children_end)
    _exit_when_worn_out()
    # Makes glibc keep freed memory. A page needs dozens of buffers of some megabytes, and returning
    # them to the system takes 3 % of the time of a page. See mallopt(3); only glibc has it.
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 1 << 30)


def _sandbox() -> None:
    """Limits a child to the memory, files and ports that OCR needs; see `sandbox.rlimits`."""
    config = settings.get()
    rlimits.limit(config.worker_memory_bytes, config.worker_file_bytes)
    kept = {name for role in _roles for name in role.environment}
    rlimits.clear_environment({orphans.MARK, *kept})
    if not config.confine:
        return
    shared = [path for one in extensions.installed() for path in one.shared_folders()]
    for path in (layout.all_jobs(), *shared):
        path.mkdir(parents=True, exist_ok=True)
    writable = [layout.all_jobs(), *shared, *(path for role in _roles for path in role.writable)]
    readable = [path for role in _roles for path in role.readable]
    ports = [port for role in _roles for port in role.ports]
    ports += [config.redis_port] if config.redis_port else []
    readable += config.redis_files
    readable += [Path(name).resolve().parent for name in config.plugins if "/" in name]
    if not rlimits.confine(writable, config.data_dir, ports, readable):
        log.warning("this kernel has no Landlock; processes have resource limits, but no sandbox")


def _exit_when_worn_out() -> None:
    """Makes a child exit before it waits for its next job, if `rlimits.needs_replacement`.

    The pool replaces the child. A job that was already assigned to it goes to another child.
    """
    process = current_process()._target  # billiard's loop, which calls methods of this object
    wait = process.wait_for_job

    def wait_or_end() -> Any:
        if rlimits.needs_replacement():
            sys.exit(EX_RECYCLE)
        return wait()

    process.wait_for_job = wait_or_end


@task_prerun.connect  # type: ignore[untyped-decorator]
def _start_job(**_: Any) -> None:
    """Limits the CPU time of a job, in case the worker dies before it enforces the time limit."""
    rlimits.allow_cpu((settings.get().job_seconds + _CPU_GRACE) * settings.cores())


def _clean_up_after_transfer(job_id: str) -> None:
    """Deletes the files of a job that was deleted while some of them were transferred."""
    if leases.is_deleted(job_id):
        store.get().delete(job_id)


_broker = store.broker()
_maintenance = MaintenanceThread()
_recovery = RecoveryThread()
_webhook_sender = WebhookSender()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _on_ready(sender: Any, **_: Any) -> None:
    _maintenance.begin(sender)
    _recovery.begin()
    if _broker:
        _broker.begin(_clean_up_after_transfer)
    if settings.get().send_webhooks:
        _webhook_sender.begin()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _on_shutting_down(**_: Any) -> None:
    log.info("stopping; running jobs have up to %d seconds", settings.get().stop_seconds)
    queues.stop()
    _maintenance.end_within(settings.get().stop_seconds)
