"""OCR-D's keys in Redis: pattern, type, meaning and lifetime."""

from __future__ import annotations

from ocr_tasks.redis import keys

#: Prefix of the extension's keys. The record of a processor job is a hash like that of any job
#: (`redis.keys`), in a separate index (`PROCESSING`), with additional fields:
#:   processor      name of the processor and of its queue
#:   index          PROCESSING
#:   workspace      key of the workspace (`ocrd.workspaces.key`)
#:   outputs, pages what the job writes, as JSON: names of file groups, page ids ('': all pages)
#:   locked         1 while the job holds the locks of these pages
#:   open           number of jobs that it waits for
#:   workflow       id of the workflow run that it belongs to, or ''
#:   results        key of the result queue that receives the message about its end, or ''
#:   told           that message without the final state
#:   secret         key of a temporary secret that is valid while the job is running; may be missing
#:   ended          seconds since the epoch
#: Other keys; they are deleted when the jobs have ended, unless another lifetime is given:
#:   ocr:ocrd:dependents:<id>     set of the jobs that wait for a job
#:   ocr:ocrd:open:<workspace>    set of the jobs of a workspace that have not ended
#:   ocr:ocrd:locks:<workspace>   hash of page locks: the id of the job that writes a page of a file
#:                                group (`<group> <page>`) or all of its pages (`<group> *`); the
#:                                number of its locked pages (`<group> #`), which stays at 0
#:   ocr:ocrd:waiting:<workspace> sorted set of jobs that only wait for such a lock, by creation
#:   ocr:ocrd:ready               sorted set of `<workspace> <processor>` with jobs whose messages
#:                                have not been sent, by turn
#:   ocr:ocrd:ready:<workspace> <processor>    list of these jobs, the next one first
#:   ocr:ocrd:ready:turn          counter of turns; does not expire
#:   ocr:ocrd:workflow-job:<id>   hash of a workflow run: the run as JSON (`job`), callback URL
#:                                (`callback`), number of jobs that have not ended (`left`), whether
#:                                one did not succeed (`spoiled`), number of jobs in each state
#:                                (`<processor> <state>`), lifetime in seconds after the end
#:                                (`keep`, 0: unlimited)
#:   ocr:ocrd:failed:<id>         list of the failed jobs of a workflow run; same lifetime
#:   ocr:ocrd:results:<owner>:<name>   result queue: list of messages, oldest first; expires after a
#:                                week without a new message
#:   ocr:ocrd:results:<owner>:<name>:leases    sorted set of receipts, by the end of their leases;
#:                                same lifetime
#:   ocr:ocrd:results:<owner>:<name>:lease:<receipt>   list of the messages that a client has
#:                                received but not acknowledged, oldest first; same lifetime
#:   ocr:ocrd:processor:<name>    string, description (ocrd-tool JSON) of a processor that a running
#:                                worker offers; expires like a worker's heartbeat
#:   ocr:ocrd:known:<name>        string, the same; expires after an hour without such a worker
#:   ocr:ocrd:mets:<workspace>    string, token of the holder of the lease on the METS file; expires
#:                                after 15 seconds
OCRD = "ocr:ocrd:"

PROCESSOR_PREFIX = f"{OCRD}processor:"

#: Prefix of the indexes of processor jobs: sorted sets of ids, like `keys.JOBS`.
PROCESSING = "ocr:processing"


def processor(name: str) -> str:
    return PROCESSOR_PREFIX + name


def known_processor(name: str) -> str:
    return f"{OCRD}known:{name}"


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
