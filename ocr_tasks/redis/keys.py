"""Every key in Redis that is ours: its pattern, type, meaning and lifetime.

Celery's own keys are the queues (`celery_app.LANES`), `unacked…` and `_kombu…`. Extensions list
theirs in modules called `redis_keys`. The record of an extension's job has one more field, `index`:
the key of the index of its jobs.
"""

from __future__ import annotations

from ocr_tasks.model import State

#: Prefix that Celery gives the metadata of a task. Hash, one per job, for as long as the job is
#: kept; after deletion a tombstone, for OCR_TOMBSTONE_SECONDS. Fields:
#:   meta      Celery's metadata as JSON, what `AsyncResult` reads
#:   state     our state of the job, or `deleted`
#:   job       what never changes, as JSON: input, options and owner
#:   suffix    what the scripts append to the keys of the indexes for those of the job's owner
#:   progress  the last progress as JSON
#:   revision  counts the changes
#:   attempt   counts the runs: 1, and one more with each retry and each worker that was lost
#:   losses    counts the workers that were lost with it since it was asked for
#:   lane      the queue that its message was sent to (`app.LANES`)
#:   token     who may write: the fencing token of the run that claimed the job last
#:   holder    the process that has it
#:   created   seconds since the epoch
#:   callback  who is told of it wants to know of its `end` or all `stages`, '' for nobody
#:   stage     the stage that was told of last, for those
#:   deliveries  the last tries to tell, as JSON
#: The channel of the same name announces each change with the metadata, as Celery's backend does.
TASK_PREFIX = "celery-task-meta-"

#: Sorted set of all job ids by their time of submission, in microseconds since the epoch.
#: Those of one owner are in a set of their own, and so are those in one state, and both.
JOBS = "ocr:jobs"

#: Sorted set of the ids of jobs that run by the second in which their lease runs out.
LEASES = "ocr:leases"

#: Sorted set of the ids of jobs that wait by the second in which their message was sent.
AWAITED = "ocr:awaited"

#: Sorted sets of the ids of jobs by the second of their end: those that still have what is named.
ENDED_WITH_INPUT = "ocr:ended:inputs"
ENDED_WITH_RESULTS = "ocr:ended:results"
ENDED = "ocr:ended:jobs"

#: Sorted set of what is to be told (`webhooks`), `<job id> <attempt> <state or stage>`, by the
#: second in which it is due; and a hash of the tries of each.
OUTBOX = "ocr:outbox"
OUTBOX_TRIES = "ocr:outbox:tries"

#: String: a worker does something that is done once in a while; lives for that while.
TURN_PREFIX = "ocr:turn:"

#: String, JSON `[fingerprint, job id]`; one per Idempotency-Key, for OCR_IDEMPOTENCY_SECONDS.
IDEMPOTENCY_PREFIX = "ocr:idempotency:"

#: String, the id of a job; one per document and options of a client, for as long as results are
#: kept. Only with OCR_REUSE_RESULTS.
SAME_PREFIX = "ocr:same:"

#: Hash of counters for /metrics; never expires.
STATS = "ocr:stats"

#: Hash of the requests of all web processes, for /metrics (`tally`); never expires. Fields are
#: `requests <method> <route> <status>`, `took <method> <route> <upper bound of the class>` and
#: `seconds <method> <route> all`.
REQUESTS = "ocr:requests"

#: Sorted set of pages that are being read, by the second in which they do not count any more.
READING = "ocr:reading"

#: String, JSON of a `WorkerInfo`; one per worker; lives 15 seconds and is renewed.
WORKER_PREFIX = "ocr:worker:"

#: Set of the names of workers, among them some that have gone.
WORKERS = "ocr:workers"

#: Hash, one per API token; never expires (`tokens`). Fields:
#:   name     what the operator calls it
#:   digest   SHA-256 of the secret, in hexadecimal; not there once the token is revoked
#:   scopes   what it may do, joined by spaces
#:   limits   limits of its own, as JSON
#:   created, expires, used, revoked   seconds since the epoch; not there where it never happens
TOKEN_PREFIX = "ocr:token:"  # noqa: S105  # a key, no password

#: Sorted set of the ids of all tokens by the time they were made, in seconds since the epoch.
TOKENS = "ocr:tokens"

#: Prefix of the counters of the `limits` library, each with the lifetime of its window.
LIMITS = "ocr:limits"

#: Set of the languages that the workers had when they were last seen; never expires.
LANGUAGES = "ocr:languages"

#: String: a document has stepped aside for another one; lives a few seconds (`lanes`).
ASIDE = "ocr:aside"

#: A batch of the page queue (`pages`); until its stage is done, or its
#: owner does not keep it any more.
#:   ocr:batch:<id>          hash: count; holder:<item> its reader, tries:<item> its leases so far
#:   ocr:batch:<id>:waiting  list of items, the next one last
#:   ocr:batch:<id>:leases   sorted set of leased items by the second in which the lease runs out
#:   ocr:batch:<id>:done     list of `<item> <reader>`, or `<item> lost`
BATCH_PREFIX = "ocr:batch:"


def task(job_id: str) -> str:
    return TASK_PREFIX + job_id


def token(token_id: str) -> str:
    return TOKEN_PREFIX + token_id


def owned_by(owner: str) -> str:
    """What is appended to the key of an index of jobs for the index of one owner's jobs."""
    return f":of:{owner}"


def jobs_in(state: State | None, owner: str | None = None) -> str:
    """Sorted set of the ids of the jobs in a state, by their time of submission.

    No state means all states, no owner all owners.
    """
    index = f"{JOBS}:{state}" if state else JOBS
    return index if owner is None else index + owned_by(owner)


def job(job_id: str) -> list[str]:
    """All keys that a change of a job touches, in the order that the scripts expect."""
    ended = (ENDED_WITH_INPUT, ENDED_WITH_RESULTS, ENDED)
    return [task(job_id), JOBS, STATS, LEASES, AWAITED, *ended, OUTBOX]


def batch(batch_id: str) -> list[str]:
    """All keys of a batch, in the order that the scripts expect."""
    main = BATCH_PREFIX + batch_id
    return [main, f"{main}:waiting", f"{main}:leases", f"{main}:done"]
