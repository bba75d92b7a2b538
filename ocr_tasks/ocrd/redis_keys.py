"""OCR-D's keys in Redis: pattern, type, meaning and lifetime."""

from __future__ import annotations

from ocr_tasks.redis import keys

#: Jobs of OCR-D processors (`ocrd`). Their records are hashes as those of other jobs, but are in
#: an index of their own, and have these fields more:
#:   processor      what is run, which is the name of its queue too
#:   index          PROCESSING
#:   workspace      the workspace's key (`ocrd.workspaces.key`)
#:   outputs, pages what it writes, as JSON: names of file groups, ids of pages ('': all)
#:   open           counts the jobs it waits for
#:   workflow       the run of a workflow that it belongs to, or ''
#:   results        the list that its end is told on, or ''
#:   told           the beginning of that message
#:   ended          seconds since the epoch
#: Beside them, all until the jobs have ended unless another lifetime is named:
#:   ocr:ocrd:dependents:<id>     set of the jobs that wait for a job
#:   ocr:ocrd:open:<workspace>    set of the jobs of a workspace that have not ended
#:   ocr:ocrd:locks:<workspace>   hash: who writes a page of a group (`<group> <page>`) or all of it
#:                                (`<group> *`), and how many pages of it are being written
#:                                (`<group> #`)
#:   ocr:ocrd:waiting:<workspace> sorted set of jobs that wait for such a lock only, by their time
#:   ocr:ocrd:ready               sorted set of workspaces with jobs whose messages are to be sent,
#:                                by turns; ocr:ocrd:ready:<workspace> list of them, the next one
#:                                first; ocr:ocrd:ready:turn counts the turns
#:   ocr:ocrd:workflow-job:<id>   hash: what it is as JSON (job), the address to call (callback),
#:                                jobs that have not ended (left), whether one failed (spoiled),
#:                                how many are in each state (`<processor> <state>`); lives for
#:                                `keep` seconds after the end
#:   ocr:ocrd:failed:<id>         list of the jobs of it that failed; likewise
#:   ocr:ocrd:results:<owner>:<name>   list of result messages, the oldest first; lives a week
#:   ocr:ocrd:processor:<name>    string, ocrd-tool JSON of what living workers offer; lives as a
#:                                worker's sign of life does
#:   ocr:ocrd:mets:<workspace>    string: who changes the METS file; lives 15 seconds
OCRD = "ocr:ocrd:"

PROCESSOR_PREFIX = f"{OCRD}processor:"

#: Sorted sets of the ids of jobs of processors, as JOBS is of the others.
PROCESSING = "ocr:processing"


def processor(name: str) -> str:
    return PROCESSOR_PREFIX + name


def mets_lease(workspace_key: str) -> str:
    return f"{OCRD}mets:" + workspace_key


def processing_in(state: str | None, owner: str | None = None) -> str:
    """Returns the key of an index of processor jobs, like `keys.jobs_in`."""
    index = f"{PROCESSING}:{state}" if state else PROCESSING
    return index if owner is None else index + keys.owned_by(owner)


def open_jobs(workspace: str) -> str:
    return f"{OCRD}open:{workspace}"


def results(owner: str, name: str) -> str:
    return f"{OCRD}results:{owner}:{name}"


def workflow_job(job_id: str) -> str:
    return f"{OCRD}workflow-job:{job_id}"


def workflow_failures(job_id: str) -> str:
    return f"{OCRD}failed:{job_id}"
