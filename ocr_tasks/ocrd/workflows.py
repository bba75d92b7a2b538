"""Stored workflows, and workflow runs, each of which is a set of jobs with dependencies.

Stored workflows are `workflows/<id>.json` in the data folder. `workflows/by-text/<digest>` contains
the id of a client's workflow with that text, so the same text is not stored twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import mets_files, processing, redis_keys, tools, workflow_text
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import (
    NEXTFLOW,
    ProcessingState,
    ProcessorJob,
    Run,
    Step,
    WorkflowJob,
    Workspace,
)
from ocr_tasks.ocrd.records import PlannedRun
from ocr_tasks.redis import connection
from ocr_tasks.security import url_guard
from ocr_tasks.storage import atomic, layout

_FOLDER = "workflows"


# Stored workflows


def save(text: str, owner: str) -> str:
    """Stores a workflow and returns its id. Raises ocrd_errors.WorkflowExists for a known text."""
    check(text)
    workflow_id = layout.new_id()
    with layout.storage_errors():
        by_text = _text_path(text, owner)
        by_text.parent.mkdir(parents=True, exist_ok=True)
        _write(workflow_id, text, owner)
        try:
            with by_text.open("x") as file:
                file.write(workflow_id)
        except FileExistsError:
            known = by_text.read_text()
        else:
            return workflow_id
        with suppress(ocrd_errors.WorkflowNotFound):
            if _read(known, owner)["text"] == text:
                layout.delete_tree(_path(workflow_id))
                raise ocrd_errors.WorkflowExists(
                    f"The same workflow script already exists, workflow id: {known}",
                    workflow_id=known,
                )
        atomic.write(by_text, workflow_id.encode())  # the text of the other one has changed
    return workflow_id


def replace(workflow_id: str, text: str, owner: str | None) -> None:
    """Replaces the text of a workflow."""
    record = _read(workflow_id, owner)
    check(text)
    with layout.storage_errors():
        _write(workflow_id, text, record["owner"])


def text(workflow_id: str, owner: str | None) -> str:
    """Returns the text of a workflow."""
    return str(_read(workflow_id, owner)["text"])


def check(text: str) -> None:
    """Raises an error unless a text is a workflow that can be run here."""
    if not workflow_text.is_nextflow(text, ""):
        workflow_text.parse(text)
    elif not tools.is_known(NEXTFLOW):
        raise ocrd_errors.NextflowUnavailable()


def _path(workflow_id: str) -> Path:
    return settings.get().data_dir / _FOLDER / f"{workflow_id}.json"


def _text_path(text: str, owner: str) -> Path:
    digest = hashlib.sha256(f"{owner}\0{text}".encode()).hexdigest()
    return settings.get().data_dir / _FOLDER / "by-text" / digest


def _write(workflow_id: str, text: str, owner: str) -> None:
    content = json.dumps({"text": text, "owner": owner, "changed": time.time()})
    atomic.write(_path(workflow_id), content.encode())


def _read(workflow_id: str, owner: str | None) -> dict[str, Any]:
    if not layout.is_id(workflow_id):
        raise ocrd_errors.WorkflowNotFound()
    try:
        record: dict[str, Any] = json.loads(_path(workflow_id).read_bytes())
    except FileNotFoundError:
        raise ocrd_errors.WorkflowNotFound() from None
    except (OSError, ValueError) as error:
        raise errors.StorageUnavailable("The workflow file cannot be read") from error
    if owner is not None and record["owner"] != owner:
        raise ocrd_errors.WorkflowNotFound()
    return record


# Runs


def run(
    text: str,
    workspace: Workspace,
    page_id: str,
    page_wise: bool,
    callback_url: str,
    owner: str,
    description: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> WorkflowJob:
    """Creates the jobs of a workflow run, and returns the run.

    A step waits for the last step before it that writes one of its input file groups. With
    `page_wise`, each page passes through the steps independently. `parameters` are those of a
    Nextflow script.
    """
    if callback_url:
        url_guard.parse(callback_url)
    mets = mets_files.read(workspace.mets)
    if page_wise and workflow_text.is_nextflow(text, ""):
        raise ocrd_errors.ProcessingInvalid("A Nextflow script runs once, for all pages")
    runs = _runs_of(text, parameters or {}, mets, workspace, owner)
    pages = processing.pages_of(mets, page_id)
    job_id = layout.new_id()
    chains: dict[str, Sequence[str] | None] = {page_id: pages}
    if page_wise:
        chains = {page: [page] for page in (mets.pages if pages is None else pages)}
    most = ocrd_settings.get().ocrd_max_jobs
    if len(chains) * len(runs) > most:
        raise ocrd_errors.ProcessingInvalid(
            f"The workflow would need more than {most} jobs; select fewer pages"
        )
    processing.check_capacity(len(chains) * len(runs))
    planned = {
        key: list(_chain(runs, workspace, owner, chosen, job_id)) for key, chosen in chains.items()
    }
    job = WorkflowJob(
        id=job_id,
        path_to_mets=workspace.mets,
        workspace_id=workspace.id,
        owner=owner,
        page_id=page_id,
        page_wise=page_wise,
        jobs={key: [row.id for row in chain] for key, chain in planned.items()},
        created_at=time.time(),
        description=description,
        callback_url=callback_url,
    )
    _store_job(job)
    processing.create(row for chain in planned.values() for row in chain)
    return job


def _runs_of(
    text: str, parameters: Mapping[str, Any], mets: Mets, workspace: Workspace, owner: str
) -> list[Run]:
    """Returns the run of each step; `depends_on` contains 0-based positions of steps."""
    if workflow_text.is_nextflow(text, ""):
        given: dict[str, Any] = {"script": text}
        given |= {"parameters": dict(parameters)} if parameters else {}
        return [processing.validated(Run(NEXTFLOW, (), parameters=given))]
    if parameters:
        raise ocrd_errors.ProcessingInvalid(
            "Only Nextflow scripts have parameters; write them into the text of the workflow"
        )
    runs: list[Run] = []
    writer: dict[str, int] = {}
    for step in workflow_text.parse(text):
        before = sorted({writer[name] for name in step.input_file_grps if name in writer})
        step_run = _validated(step)
        existing_inputs = dataclasses.replace(
            step_run, input_file_grps=tuple(n for n in step_run.input_file_grps if n not in writer)
        )
        processing.check_groups(existing_inputs, mets, workspace, owner)
        runs.append(dataclasses.replace(step_run, depends_on=tuple(map(str, before))))
        writer |= dict.fromkeys(step.output_file_grps, len(runs) - 1)
    return runs


def _validated(step: Step) -> Run:
    step_run = Run(
        step.processor, step.input_file_grps, step.output_file_grps, parameters=step.parameters
    )
    try:
        return processing.validated(step_run)
    except (ocrd_errors.ParametersInvalid, ocrd_errors.ProcessingInvalid) as error:
        raise type(error)(f"line {step.line}: {error.detail}") from error


def _chain(
    runs: Sequence[Run],
    workspace: Workspace,
    owner: str,
    pages: Sequence[str] | None,
    workflow: str,
) -> Iterator[PlannedRun]:
    job_ids: list[str] = []
    for template in runs:
        step_run = dataclasses.replace(
            template,
            page_id="" if pages is None else ",".join(pages),
            depends_on=tuple(job_ids[int(position)] for position in template.depends_on),
        )
        planned = processing.plan(step_run, workspace, owner, pages, workflow)
        job_ids.append(planned.id)
        yield planned


def _store_job(job: WorkflowJob) -> None:
    fixed = dataclasses.asdict(job) | {"path_to_mets": str(job.path_to_mets)}
    fields: dict[Any, Any] = {
        "job": json.dumps(fixed),
        "callback": job.callback_url,
        "left": sum(map(len, job.jobs.values())),
        "keep": settings.get().keep_jobs_seconds,
    }
    with connection.translated_errors():
        connection.client().hset(redis_keys.workflow_job(job.id), mapping=fields)


def read_job(job_id: str, owner: str | None = None) -> WorkflowJob:
    """Returns a workflow run. Raises ocrd_errors.ProcessingNotFound."""
    if not layout.is_id(job_id):
        raise ocrd_errors.ProcessingNotFound()
    with connection.translated_errors():
        fixed = connection.client().hget(redis_keys.workflow_job(job_id), "job")
    if fixed is None:
        raise ocrd_errors.ProcessingNotFound()
    found = json.loads(str(fixed))
    job = WorkflowJob(**{**found, "path_to_mets": Path(found["path_to_mets"])})
    if owner is not None and job.owner != owner:
        raise ocrd_errors.ProcessingNotFound()
    return job


def summary(job_id: str, owner: str | None = None) -> dict[str, Any]:
    """Returns the number of jobs by processor and state, and the failed jobs with their pages.

    Also lists the processors with queued jobs that no running worker offers.
    """
    read_job(job_id, owner)
    counts, failures = _counts(job_id)
    result: dict[str, Any] = dict(counts)
    waiting = [name for name, row in counts.items() if ProcessingState.QUEUED in row]
    missing = sorted(name for name in waiting if not tools.is_offered(name))
    if missing:
        result["processors-without-worker"] = missing
    failed: dict[str, list[dict[str, str]]] = {}
    for job in processing.read_all(failures).values():
        row = {"job_id": job.id, "page_id": job.run.page_id}
        failed.setdefault(job.run.processor, []).append(row)
    return result | ({"failed-processor-tasks": failed} if failed else {})


def simple_state(job_id: str, owner: str | None = None) -> ProcessingState:
    """Returns the state of a whole run; UNSET if no job is running, and some have not ended."""
    read_job(job_id, owner)
    counts, _ = _counts(job_id)
    states = {state for row in counts.values() for state in row}
    if states & {ProcessingState.FAILED, ProcessingState.CANCELLED}:
        return ProcessingState.FAILED
    if ProcessingState.RUNNING in states:
        return ProcessingState.RUNNING
    return ProcessingState.SUCCESS if states == {"SUCCESS"} else ProcessingState.UNSET


def _counts(job_id: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    with connection.translated_errors(), connection.client().pipeline(transaction=False) as pipe:
        pipe.hgetall(redis_keys.workflow_job(job_id))
        pipe.lrange(redis_keys.workflow_failures(job_id), 0, -1)
        fields, failures = cast("tuple[Mapping[str, str], list[str]]", pipe.execute())
    counts: dict[str, dict[str, int]] = {}
    for name, value in fields.items():
        processor, _, state = name.partition(" ")
        if state and int(value) > 0:
            counts.setdefault(processor, {})[processing.STATES[state]] = int(value)
    return counts, failures


def states(job: WorkflowJob) -> dict[str, ProcessorJob]:
    """Returns the jobs of a run by id."""
    return processing.read_all([job_id for chain in job.jobs.values() for job_id in chain])


def cancel(job_id: str, owner: str | None = None) -> WorkflowJob:
    """Cancels all jobs of a run that have not ended, and returns the run."""
    job = read_job(job_id, owner)
    for chain in reversed(job.jobs.values()):  # the last first, so that no other starts
        for one in chain:  # cancelling the first cancels those that depend on it
            with suppress(ocrd_errors.ProcessingNotFound, errors.JobEnded):
                processing.cancel(one)
    return job
