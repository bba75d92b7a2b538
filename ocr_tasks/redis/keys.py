"""The keys of the core in Redis: pattern, type, meaning and lifetime of each.

Celery's own keys are its queues (the values of `celery_app.QUEUES`), `unacked…` and `_kombu…`.
Extensions document their keys in modules called `redis_keys`, web dialects in the modules that use
them. Records of extensions' jobs have the additional field `index`: the key of their own index of
jobs, which takes the place of `JOBS`.

Times are seconds since the epoch; those of leases and of what is due are by the clock of Redis.
"""

from __future__ import annotations

from ocr_tasks.model import State

#: Prefix that Celery gives the metadata of a task. One hash per job, which exists as long as the
#: job is kept. After a deletion it is a tombstone that expires after OCR_TOMBSTONE_SECONDS. Fields:
#:   meta        Celery's metadata as JSON, which `AsyncResult` returns
#:   state       state of the job (`model.State`), or `deleted`
#:   job         the immutable part as JSON: input, options, owner, and callback if there is one
#:   suffix      suffix of the keys of the owner's indexes (`owned_by`)
#:   progress    last progress as JSON (`model.Progress`)
#:   revision    number of changes
#:   attempt     number of the run: starts at 1, incremented by each retry and each lost worker
#:   losses      workers lost while running the job since it was submitted or retried
#:   lane        queue of its message: a key of `celery_app.QUEUES`, or the queue of an extension
#:   token       fencing token of the run that acquired the job; '' unless the job is running
#:   holder      process that holds the lease (`leases.holder`); '' unless the job is running
#:   created     time of submission
#:   callback    events that the webhook receives: `end` or `stages`; '' without a webhook
#:   stage       last stage for which a webhook was queued; only with `stages`
#:   deliveries  the last 20 delivery attempts of webhooks, as JSON (`webhooks.Attempt`)
#: Each change publishes the metadata on the channel of the same name, like Celery's backend.
TASK_PREFIX = "celery-task-meta-"

#: Sorted set of the ids of all jobs, by time of submission in microseconds since the epoch.
#: The jobs of one owner, of one state, and of both are also in sets of their own (`jobs_in`):
#: ocr:jobs:<state>, ocr:jobs:of:<owner> and ocr:jobs:<state>:of:<owner>.
JOBS = "ocr:jobs"

#: Sorted set of the ids of running jobs, by the time at which their lease expires.
LEASES = "ocr:leases"

#: Sorted set of the ids of queued jobs, by the time at which their message was sent.
AWAITED = "ocr:awaited"

#: Sorted sets of the ids of ended jobs by the time of their end: jobs that still have their input,
#: jobs that still have results, and all ended jobs.
ENDED_WITH_INPUT = "ocr:ended:inputs"
ENDED_WITH_RESULTS = "ocr:ended:results"
ENDED = "ocr:ended:jobs"

#: Sorted set of webhooks to send (`webhooks`), `<job id> <attempt> <state or stage>`, by the time
#: at which they are due.
OUTBOX = "ocr:outbox"

#: Hash of the number of failed delivery attempts of each webhook in OUTBOX that had any.
OUTBOX_TRIES = "ocr:outbox:tries"

#: String: a worker has started a periodic action; expires when the action is due again. Actions are
#: `jobs`, `retention` and `storage:<run id of Redis>`.
TURN_PREFIX = "ocr:turn:"

#: String, JSON `[fingerprint, job id]`; one per Idempotency-Key, for OCR_IDEMPOTENCY_SECONDS.
IDEMPOTENCY_PREFIX = "ocr:idempotency:"

#: String, the id of a job; one per combination of owner, document and options. Expires with the
#: results. Written only with OCR_REUSE_RESULTS.
SAME_PREFIX = "ocr:same:"

#: Hash of counters for /metrics; never expires. Extensions may add fields. Those of the core:
#:   jobs_submitted, jobs_<state>   accepted jobs, and ended jobs by final state
#:   failed_<code>                  failed jobs by error code
#:   attempts, retries              runs of queued jobs, and retries by clients
#:   takeovers, asides              jobs requeued after the loss of a worker, or without a loss
#:   waited_<bound>, took_<bound>   histograms of the seconds that jobs waited and ran, by bucket
#:   waited_seconds, seconds_total  sums of these seconds
#:   seconds_<stage>                seconds that succeeded jobs spent in each stage
#:   pages, pages_failed            pages of succeeded jobs, and those of them that failed
#:   pages_read                     processed pages, counted at once and again on each retry
#:   webhooks_<result>              delivery attempts: `delivered`, `failed` or `given_up`
STATS = "ocr:stats"

#: Hash of HTTP requests of all web processes, for /metrics (`counters`); never expires. Fields:
#:   requests <method> <route> <status>     number of requests
#:   took <method> <route> <upper bound>    number of requests by bucket of their duration
#:   seconds <method> <route> all           sum of their durations in seconds
REQUESTS = "ocr:requests"

#: Sorted set of random ids, one per page that is being processed, by the time after which the page
#: no longer counts.
READING = "ocr:reading"

#: String, JSON of a `model.WorkerInfo`; one per worker. Expires after 15 seconds unless renewed.
WORKER_PREFIX = "ocr:worker:"

#: Set of the names of workers. May contain workers that have ended.
WORKERS = "ocr:workers"

#: Hash, one per API token; never expires (`security.tokens`). Fields:
#:   name     label given by the administrator
#:   digest   SHA-256 of the secret, in hexadecimal; missing once the token is revoked
#:   scopes   space-separated scopes
#:   limits   the token's own limits, as JSON
#:   created, expires, used, revoked   times; missing if it does not expire, was not used or revoked
TOKEN_PREFIX = "ocr:token:"  # noqa: S105  # a key, no password

#: String, one per temporary secret of a token: space-separated scopes. Expires with the secret.
TEMPORARY_SECRET_PREFIX = "ocr:temporary-secret:"  # noqa: S105  # a key, no password

#: Sorted set of the ids of all tokens, by the time of their creation.
TOKENS = "ocr:tokens"

#: Prefix of the counters of the `limits` library (`security.rate_limits`). Each expires with its
#: window.
LIMITS = "ocr:limits"

#: Set of the languages of the worker that announced itself last; never expires.
LANGUAGES = "ocr:languages"

#: String: a document has yielded to another one; expires after a few seconds (`queues.Turn`).
ASIDE = "ocr:aside"

#: A batch of the page queue (`page_queue`). Exists until its stage is done, or expires when the
#: owner of the job stops renewing it.
#:   ocr:batch:<id>          hash: count, number of items; holder:<item>, process that leases it;
#:                           tries:<item>, number of leases so far
#:   ocr:batch:<id>:waiting  list of waiting items, the next one last
#:   ocr:batch:<id>:leases   sorted set of leased items, by the time at which the lease expires
#:   ocr:batch:<id>:done     list of `<item> <holder>`, or `<item> lost`
BATCH_PREFIX = "ocr:batch:"


def task(job_id: str) -> str:
    return TASK_PREFIX + job_id


def token(token_id: str) -> str:
    return TOKEN_PREFIX + token_id


def temporary_secret(token_id: str, digest: str) -> str:
    return f"{TEMPORARY_SECRET_PREFIX}{token_id}:{digest}"


def owned_by(owner: str) -> str:
    """Returns the suffix that turns the key of an index of jobs into that of one owner's jobs."""
    return f":of:{owner}"


def jobs_in(state: State | None, owner: str | None = None) -> str:
    """Returns the key of the sorted set of jobs in a state, by their time of submission.

    Without a state it has jobs of all states, without an owner the jobs of all owners.
    """
    index = f"{JOBS}:{state}" if state else JOBS
    return index if owner is None else index + owned_by(owner)


def job(job_id: str) -> list[str]:
    """Returns all keys that a change of a job touches, in the order that the scripts expect."""
    ended = (ENDED_WITH_INPUT, ENDED_WITH_RESULTS, ENDED)
    return [task(job_id), JOBS, STATS, LEASES, AWAITED, *ended, OUTBOX]


def batch(batch_id: str) -> list[str]:
    """Returns all keys of a batch, in the order that the scripts expect."""
    main = BATCH_PREFIX + batch_id
    return [main, f"{main}:waiting", f"{main}:leases", f"{main}:done"]
