"""Runs processor jobs in workers."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import RedisError

from ocr_tasks import errors
from ocr_tasks.extensions import WorkerRole
from ocr_tasks.jobs import leases, lifecycle, queues
from ocr_tasks.jobs.celery_app import EXTENSION_QUEUES
from ocr_tasks.model import Progress, Stage, State
from ocr_tasks.ocrd import (
    discovery,
    mets_files,
    nextflow,
    processing,
    programs,
    queueing,
    recognition,
    running,
    tools,
    workspaces,
)
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.model import NEXTFLOW, RECOGNIZE, ProcessorJob, Workspace
from ocr_tasks.plugin.context import RunYielded
from ocr_tasks.storage import layout

log = logging.getLogger(__name__)

_OWN_METS = re.compile(r"\.mets-(?P<run>(?P<job>[0-9a-f-]{36})-[0-9a-f-]{36})\.xml")

#: Seconds before the second try; doubled before each further try.
_RETRY_SECONDS = 0.5


def prepare(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the descriptions of those of the processors that can run on this host, by name."""
    offered = tools.offer([name for name in names if name not in (RECOGNIZE, NEXTFLOW)])
    if RECOGNIZE in names:
        offered[RECOGNIZE] = recognition.tool()
    if NEXTFLOW in names and nextflow.program():
        offered[NEXTFLOW] = nextflow.TOOL
    return offered


def role(documents: bool) -> tuple[WorkerRole | None, dict[str, dict[str, Any]]]:
    """Returns what a worker does for OCR-D, and the descriptions of the processors that it offers.

    `documents` is false in a worker that was started for processors. Other workers take no
    documents either if OCR_PROCESSORS contains more than the built-in processor.
    """
    config = ocrd_settings.get()
    names = config.processors
    alone = not documents or not (config.only_own_processor or not names)
    if not alone and not config.processors_share_worker:
        if names:
            log.info(
                "this worker does not offer %s because OCR_STORAGE_URL or OCR_OCRD_FOLDERS is set; "
                "run `ocr-tasks worker --processors %s`",
                *(",".join(names), ",".join(names)),
            )
        return None, {}
    offered = prepare(names)
    if alone and not offered:
        log.error("no processor of OCR_PROCESSORS can run on this host")
    environment = programs.allowed(os.environ)
    if NEXTFLOW in offered:
        environment |= nextflow.allowed(os.environ)
    found = WorkerRole(
        queues=tuple(offered if alone else names),
        documents=not alone,
        info={
            "processors": sorted(offered),
            "machine": discovery.machine(offered) if offered else {},
        },
        environment=frozenset(environment) if alone else frozenset(),
        writable=tuple(writable()) if alone else (),
        readable=tuple(readable()) if alone else (),
        ports=(nextflow.server_port(),) if NEXTFLOW in offered else (),
    )
    return found, offered


def writable() -> list[Path]:
    """Returns the paths that processors may write to."""
    # Devices of GPUs.
    gpus = [*Path("/dev").glob("nvidia*"), Path("/dev/shm"), Path("/dev/dri")]  # noqa: S108
    return [programs.home(), *ocrd_settings.get().ocrd_folders, *gpus]


def readable() -> list[Path]:
    """Returns the folders in which processors and their models are installed."""
    folders = [Path(name) for name in ocrd_settings.get().ocrd_path.split(":") if name]
    installed = [path.resolve().parent for path in folders]
    data = os.environ.get("XDG_DATA_HOME")
    return [*installed, *([Path(data)] if data else [])]


def begin(job_id: str, token: str, holder: str) -> ProcessorJob | None:
    """Acquires a job for this process, like `leases.acquire`. Returns None if it cannot."""
    try:
        job = processing.read(job_id)
    except ocrd_errors.ProcessingNotFound:
        return None
    now = time.time()
    progress = Progress(Stage.OCR, started_at=job.started_at or now, updated_at=now)
    return job if lifecycle.backend().acquire(job_id, token, holder, progress) else None


def run(job: ProcessorJob, token: str) -> None:
    """Runs a job's processor, up to OCR_OCRD_TRIES times; its output is appended to the job's log.

    Raises RunYielded if pages are left for another run.
    """
    folder = layout.job(job.id)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if not job.path_to_mets.is_file():
            raise ocrd_errors.ProcessorFailed("The workspace no longer exists")
        if job.run.processor == NEXTFLOW:
            nextflow.run(job, folder.work(token), folder.log)
            return
        _delete_leftovers(job)
        if not _run_with_retries(_order(job, token), folder, token):
            raise RunYielded
    except OSError as error:
        raise errors.JobStorageError(f"{type(error).__name__}: {error.strerror}") from error
    except errors.RequestError as error:  # the request is no longer valid
        raise ocrd_errors.ProcessorFailed(error.detail) from error
    finally:
        layout.delete_tree(folder.work(token))
        # If this fails, the next run or download of the workspace does it.
        with suppress(errors.OcrTasksError, OSError):
            mets_files.merge_pending_if_few_jobs(job.path_to_mets, _key(job))


def _delete_leftovers(job: ProcessorJob) -> None:
    """Deletes the files of killed runs of this job and of ended jobs in the workspace."""
    left = {
        found["run"]: found["job"]
        for path in job.path_to_mets.parent.glob(".mets-*.xml")
        if (found := _OWN_METS.fullmatch(path.name))
    }
    ended = leases.ended(list(left.values()))
    for run_id, job_id in left.items():
        if job_id in ended or job_id == job.id:
            running.delete_files(job.path_to_mets, run_id)


def _order(job: ProcessorJob, token: str) -> running.Order:
    return running.Order(
        executable=job.run.processor,
        mets=job.path_to_mets,
        key=_key(job),
        input_file_grps=job.run.input_file_grps,
        output_file_grps=job.run.output_file_grps,
        pages=None if job.pages is None else list(job.pages),
        parameters=job.run.parameters,
        run_id=f"{job.id}-{token}",
        one_of_many=bool(job.workflow_job) and len(job.pages or ()) == 1,
    )


def _key(job: ProcessorJob) -> str:
    return workspaces.key(Workspace(job.workspace_id, job.path_to_mets))


def _run_with_retries(order: running.Order, folder: layout.JobFolder, token: str) -> bool:
    """Returns False if the run has yielded and pages are left."""
    log_file, scratch = folder.log, folder.work(token)
    # A worker without documents yields only when it is stopped.
    turn = queues.Turn("normal") if EXTENSION_QUEUES else None
    most = ocrd_settings.get().ocrd_tries
    for number in range(1, most + 1):
        try:
            return running.run(
                order, log_file, scratch, lambda: turn.is_over(0) if turn else queues.stopping()
            )
        except ocrd_errors.ProcessorFailed as error:
            if number == most or queues.stopping():
                raise
            pause = _RETRY_SECONDS * 2 ** (number - 1)
            with log_file.open("a") as log_output:
                log_output.write(f"Try {number} of {most} failed; retrying in {pause} s.\n")
            log.warning("%s failed, try %d of %d: %s", order.executable, number, most, error)
            time.sleep(pause)
    return True


def commit(job: ProcessorJob, token: str) -> dict[str, Any] | None:
    """Records a job as succeeded and returns its result; None if this run has lost the job."""
    result = {
        "processor": job.run.processor,
        "path_to_mets": str(job.path_to_mets),
        "output_file_grps": list(job.run.output_file_grps),
    }
    if not lifecycle.backend().finish(job.id, token, State.SUCCEEDED, result):
        return None
    _publish_ready()
    return result


def fail(job: ProcessorJob, token: str, error: errors.JobError) -> None:
    """Records a job as failed; jobs that depend on it are cancelled."""
    result = lifecycle.backend().prepare_exception(error)
    lifecycle.backend().finish(job.id, token, State.FAILED, result)
    with suppress(OSError), layout.job(job.id).log.open("a") as log_output:
        log_output.write(f"The job failed: {error.detail} {json.dumps({'code': error.code})}\n")
    _publish_ready()


def _publish_ready() -> None:
    """Sends the messages of jobs that waited for one that has ended."""
    with suppress(RedisError):  # the recovery thread does it later
        queueing.publish_ready()
