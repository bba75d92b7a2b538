"""The life of a processor job as its client sees it: submit, read, cancel.

It has the record, lease, recovery and message of any job (`jobs`). In addition,
`lua/include/job.lua` makes it wait for the jobs that it depends on and for jobs that write the same
pages of the same file groups, and queues or cancels the jobs that wait for it when it ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Progress
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import messages, mets_files, queueing, records, redis_keys, tools, workspaces
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.mets.mets import Mets, is_group_name
from ocr_tasks.ocrd.mets.paths import path_error
from ocr_tasks.ocrd.model import ProcessingState, ProcessorJob, Run, Workspace
from ocr_tasks.ocrd.records import PlannedRun
from ocr_tasks.redis import connection, keys
from ocr_tasks.security import url_guard
from ocr_tasks.storage import layout

#: OCR-D's names of the job states.
STATES = {
    "deferred": ProcessingState.CACHED,
    "queued": ProcessingState.QUEUED,
    "running": ProcessingState.RUNNING,
    "succeeded": ProcessingState.SUCCESS,
    "failed": ProcessingState.FAILED,
    "cancelled": ProcessingState.CANCELLED,
}

#: Maximum number of dependencies of a job, and of open jobs of a workspace whose output file
#: groups are read.
_MOST_DEPENDENCIES, _MAX_SAMPLED_JOBS = 10_000, 10_000


def submit(run: Run, workspace: Workspace, owner: str) -> ProcessorJob:
    """Creates the job of a run, and queues it unless it has to wait for other jobs."""
    mets = mets_files.read(workspace.mets)
    run = validated(run)
    _check_dependencies(run, owner)
    check_groups(run, mets, workspace, owner)
    check_capacity(1)
    planned = plan(run, workspace, owner, pages_of(mets, run.page_id))
    create([planned])
    return read(planned.id, owner)


def check_capacity(count: int) -> None:
    """Raises errors.QueueFull if `count` more jobs would exceed OCR_OCRD_MAX_JOBS."""
    with connection.translated_errors(), connection.client().pipeline(transaction=False) as pipe:
        for state in ("deferred", "queued", "running"):
            pipe.zcard(redis_keys.processing_in(state))
        there = sum(pipe.execute())
    most = ocrd_settings.get().ocrd_max_jobs
    if there + count > most:
        raise errors.QueueFull(
            f"{there} of at most {most} processing jobs are open", retry_after=60
        )


def validated(run: Run) -> Run:
    """Returns the run with defaults added to its parameters.

    Raises an error if the processor is not known (`tools.is_known`), or if the run is invalid.
    """
    try:
        tool = tools.tool(run.processor)
    except ocrd_errors.ProcessorNotFound as error:
        raise ocrd_errors.ProcessorUnavailable(f"No worker offers {run.processor!r}") from error
    groups = (*run.input_file_grps, *run.output_file_grps)
    wrong = next((name for name in groups if not is_group_name(name)), None)
    if wrong is not None:
        raise ocrd_errors.ProcessingInvalid(f"{wrong[:100]!r} is not a valid name of a file group")
    if len(set(run.output_file_grps)) < len(run.output_file_grps):
        raise ocrd_errors.ProcessingInvalid("An output file group is listed twice")
    if set(run.input_file_grps) & set(run.output_file_grps):
        raise ocrd_errors.ProcessingInvalid("A file group cannot be both input and output")
    tools.check_groups(tool, run.input_file_grps, run.output_file_grps)
    if run.callback_url:
        url_guard.parse(run.callback_url)
    if run.result_queue_name:
        messages.check_name(run.result_queue_name)
    parameters = tools.check_parameters(tool, run.parameters)
    return Run(**{**_fields(run), "parameters": parameters})


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in Run.__slots__}


def _check_dependencies(run: Run, owner: str) -> None:
    if len(run.depends_on) > _MOST_DEPENDENCIES:
        raise ocrd_errors.ProcessingInvalid(f"depends_on: more than {_MOST_DEPENDENCIES} jobs")
    found = read_all(run.depends_on, owner)
    missing = next((job_id for job_id in run.depends_on if job_id not in found), None)
    if missing is not None:
        raise ocrd_errors.ProcessingInvalid(f"depends_on: the job {missing[:100]!r} does not exist")


def check_groups(run: Run, mets: Mets, workspace: Workspace, owner: str) -> None:
    """Checks that the input file groups exist, or will exist, and are in the workspace.

    Raises ocrd_errors.FileGroupUnknown or ocrd_errors.WorkspaceInvalid.
    """
    for file in mets.files():
        # Uploaded workspaces have been checked; those named by their path have not.
        wrong = path_error(file.href) if file.local and file.group in run.input_file_grps else ""
        if wrong:
            raise ocrd_errors.WorkspaceInvalid(f"METS references {file.href!r:.200}: {wrong}")
    unknown = set(run.input_file_grps) - set(mets.groups)
    if unknown:
        unknown -= _future_groups(workspaces.key(workspace))
    if unknown:
        raise ocrd_errors.FileGroupUnknown(f"The file group {sorted(unknown)[0]!r} does not exist")


def _future_groups(workspace: str) -> set[str]:
    """Returns the file groups that open jobs of a workspace write."""
    client = connection.client()
    with connection.translated_errors():
        found: list[str] = client.srandmember(redis_keys.open_jobs(workspace), _MAX_SAMPLED_JOBS)  # type: ignore[assignment]
        with client.pipeline(transaction=False) as pipe:
            for job_id in found:
                pipe.hget(keys.task(job_id), "outputs")
            rows = pipe.execute()
    return {group for row in rows if row for group in json.loads(row)}


def pages_of(mets: Mets, page_id: str) -> list[str] | None:
    """Returns the ids of the pages that `page_id` selects, or None for all pages."""
    pages = mets.resolve(page_id)
    return None if len(pages) == len(mets.pages) else pages


def plan(
    run: Run, workspace: Workspace, owner: str, pages: Sequence[str] | None, workflow: str = ""
) -> PlannedRun:
    """Returns a job to create, with a new id."""
    job_id = layout.new_id()
    fixed = {
        "run": asdict(run),
        "mets": str(workspace.mets),
        "workspace_id": workspace.id,
        "pages": pages,
        "owner": owner,
        "workflow": workflow,
    }
    return PlannedRun(
        id=job_id,
        job=fixed,
        owner=owner,
        created=time.time(),
        processor=run.processor,
        workspace=workspaces.key(workspace),
        outputs=run.output_file_grps,
        pages=pages,
        depends_on=run.depends_on,
        callback=bool(run.callback_url),
        result_queue=redis_keys.results(owner, run.result_queue_name)
        if run.result_queue_name
        else "",
        message=messages.prefix(job_id, workspace) if run.result_queue_name else "",
        workflow=workflow,
    )


def create(planned: Iterable[PlannedRun]) -> None:
    """Creates jobs, and sends the messages of those that need not wait."""
    with connection.translated_errors():
        results = records.create(planned)
        queueing.publish_ready()
    if any(result < 0 for result in results):
        raise ocrd_errors.ProcessingInvalid("A job in depends_on was deleted")


def read(job_id: str, owner: str | None = None) -> ProcessorJob:
    """Returns the job. Raises ocrd_errors.ProcessingNotFound if `owner` may not see it."""
    found = read_all([job_id], owner)
    if job_id not in found:
        raise ocrd_errors.ProcessingNotFound()
    return found[job_id]


def read_all(job_ids: Sequence[str], owner: str | None = None) -> dict[str, ProcessorJob]:
    """Returns the jobs that exist and that `owner` may see (None: all), by id."""
    valid_ids = [job_id for job_id in job_ids if layout.is_id(job_id)]
    with connection.translated_errors():
        rows = lifecycle.backend().records(valid_ids)
    return {
        job_id: from_record(job_id, record)
        for job_id, (record, _) in zip(valid_ids, rows, strict=True)
        if "processor" in record
        and "job" in record
        and (owner is None or record["suffix"] == keys.owned_by(owner))
    }


def from_record(job_id: str, record: Mapping[str, str]) -> ProcessorJob:
    """Returns the job of a record in Redis (`redis_keys`)."""
    fixed = json.loads(record["job"])
    run = fixed["run"]
    for name in ("input_file_grps", "output_file_grps", "depends_on"):
        run[name] = tuple(run[name])
    state = STATES[record["state"]]
    failed = state in (ProcessingState.FAILED, ProcessingState.CANCELLED)
    result = json.loads(record["meta"])["result"] if failed else {}
    code = result.get("code", "")
    return ProcessorJob(
        id=job_id,
        state=state,
        run=Run(**run),
        path_to_mets=Path(fixed["mets"]),
        workspace_id=fixed["workspace_id"],
        owner=fixed["owner"],
        created_at=float(record["created"]),
        pages=None if fixed["pages"] is None else tuple(fixed["pages"]),
        attempt=int(record["attempt"]),
        workflow_job=fixed["workflow"],
        started_at=Progress.from_dict(json.loads(record["progress"])).started_at,
        ended_at=float(record["ended"]) if "ended" in record else None,
        error_code=code,
        error=(result["exc_message"][0] or errors.by_code()[code].title) if code else "",
    )


def why_queued(job: ProcessorJob) -> str:
    """Returns why a job stays queued, if no running worker offers its processor; else ''."""
    if job.state is not ProcessingState.QUEUED or tools.is_offered(job.run.processor):
        return ""
    return f"No running worker offers {job.run.processor}"


def cancel(job_id: str, owner: str | None = None) -> ProcessorJob:
    """Cancels a job that has not ended, and the jobs that depend on it; returns the job.

    The job's worker kills its processes.
    """
    read(job_id, owner)
    with connection.translated_errors():
        if not lifecycle.backend().cancel(job_id):
            raise errors.JobEnded()
        queueing.publish_ready()
    return read(job_id, owner)


def log_file(job_id: str, owner: str | None = None) -> Path:
    """Returns the path of a job's log, which exists once the job has started."""
    read(job_id, owner)
    return layout.job(job_id).log
