"""The recovery thread of a worker: requeues jobs that no worker works on, and applies retention.

It runs in the main process of every worker, but only one worker of the service acts at a time. A
job is stuck if its worker was lost, in which case its lease expires, or if its message was lost
because the sender or the receiver died, or because Redis lost data. Messages are sent again
according to the records of jobs. A duplicate message is harmless, because only one worker can
acquire the job.
"""

from __future__ import annotations

import logging
import math
import threading
import time

from redis import RedisError

from ocr_tasks import errors, extensions, settings
from ocr_tasks.jobs import leases, lifecycle, queues, retention
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import store

log = logging.getLogger(__name__)

#: Seconds between two checks.
INTERVAL = 5.0

#: Age in seconds from which a message of a queued job can count as lost. A younger one may still be
#: about to be sent, or just have been received.
_MIN_MESSAGE_AGE = 10.0

#: Seconds within which messages may be queued in another order than their recorded times.
_REORDER_SECONDS = 2.0

#: Seconds between two deletions of expired data, and between two sweeps of all files.
_RETENTION_INTERVAL = 60.0
_SWEEP_INTERVAL = 3600.0

#: Maximum number of jobs handled by one check. The next check handles the others.
_BATCH_SIZE = 200

#: Number of further queued jobs whose messages one check inspects. The next check continues after
#: them, because the oldest ones may all wait for workers that are absent.
_SCAN_SIZE = 1000


class RecoveryThread(threading.Thread):
    """Requeues lost jobs and messages, and deletes expired data; see the module."""

    def __init__(self) -> None:
        super().__init__(name="recovery", daemon=True)
        self._stopped = threading.Event()
        self._checked_at = time.monotonic()
        #: Until when leases may have expired because Redis was unavailable.
        self._grace_until = 0.0
        #: When this host's data folder was last swept, if hosts do not share it.
        self._swept_at = -math.inf
        #: Where `publish_lost` continues.
        self._position = 0

    def begin(self) -> None:
        """Starts the thread if it is not running."""
        if not self.is_alive():
            self.start()

    def stop(self) -> None:
        """Ends the thread after the current check."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.check()
            except (RedisError, errors.QueueUnavailable) as error:
                log.warning("Redis is unavailable: %s", error)
            except (errors.StorageUnavailable, errors.StorageFull) as error:
                log.warning("storage is unavailable: %s", error)
            except Exception:  # keep running: the next check may succeed
                log.exception("could not check for lost jobs")

    def check(self) -> None:
        """Requeues lost jobs, and deletes expired data if it is due, unless another worker does."""
        now = time.monotonic()
        gap = now - self._checked_at
        uptime = connection.uptime()
        self._checked_at = now
        lease = settings.get().lease_seconds
        # While Redis is unavailable, no leases are renewed. Running workers renew theirs now.
        if gap > 2 * INTERVAL:
            self._grace_until = now + lease
        self._grace_until = max(self._grace_until, now - uptime + lease)
        if not store.get().in_folder and now - self._swept_at > _SWEEP_INTERVAL:
            self._swept_at = now
            retention.sweep_host(retention.Swept())
        if not _turn("jobs", INTERVAL * 0.9):
            return
        if now >= self._grace_until:
            take_over()
        extensions.publish_ready()
        self._position = publish_lost(self._position)
        swept = retention.Swept()
        if _turn("retention", _RETENTION_INTERVAL):
            retention.expire(swept)
        # Sweeps at once after a restart of Redis, which may have lost records, because the key has
        # the run id of Redis. A Redis that was emptied has also lost the key.
        action = f"storage:{connection.run_id()}"
        if _turn(action, _SWEEP_INTERVAL):
            try:
                retention.sweep(swept)
            except errors.ServiceError:
                _release_turn(action)
                raise
        if swept:
            log.info("applied retention: %s", swept)


def _turn(action: str, seconds: float) -> bool:
    """Acquires the right to do an action that one worker does every `seconds`."""
    name = keys.TURN_PREFIX + action
    return bool(connection.client().set(name, "1", nx=True, px=int(seconds * 1000)))


def _release_turn(action: str) -> None:
    connection.client().delete(keys.TURN_PREFIX + action)


def take_over() -> None:
    """Requeues jobs whose lease has expired."""
    now = connection.now()
    lost: list[str] = connection.client().zrangebyscore(keys.LEASES, "-inf", now, 0, _BATCH_SIZE)  # type: ignore[assignment]
    for job_id in lost:
        log.warning("the lease of job %s has expired; queueing it again", job_id)
        leases.release(job_id, lost=True)


def publish_lost(position: int = 0) -> int:
    """Sends the messages of queued jobs again that are no longer in any queue.

    Inspects the oldest _BATCH_SIZE, and _SCAN_SIZE from `position` on. Returns the position for the
    next call.
    """
    for job_id in overdue(_MIN_MESSAGE_AGE, position):
        log.warning("the message of job %s was lost; sending it again", job_id)
        lane = connection.client().hget(keys.task(job_id), "lane")
        # Does nothing if the job has been acquired in the meantime.
        if connection.client().zadd(keys.AWAITED, {job_id: connection.now()}, xx=True, ch=True):
            ((record, _),) = lifecycle.backend().records([job_id])
            if "job" in record:
                leases.send(job_id, record, str(lane))
    following = position + _SCAN_SIZE
    return following if following < int(connection.client().zcard(keys.AWAITED)) else 0


def overdue(seconds: float, position: int = 0) -> list[str]:
    """Returns queued jobs whose message was sent at least `seconds` ago and is in no queue.

    Inspects the same jobs as `publish_lost`.

    Queues are first in, first out. A message that was sent before the oldest message of its queue
    is therefore no longer in it.
    """
    client = connection.client()
    rows = _sent_before(connection.now() - seconds, position)
    if not rows:
        return []
    with client.pipeline(transaction=False) as pipe:
        for job_id, _ in rows:
            pipe.hget(keys.task(job_id), "lane")
        lane_of = pipe.execute()
    heads = {lane: queues.oldest(lane) for lane in filter(None, lane_of)}
    with client.pipeline(transaction=False) as pipe:
        for head in heads.values():
            pipe.zscore(keys.AWAITED, head or "")
        sent = dict(zip(heads, pipe.execute(), strict=True))

    def is_lost(lane: str, score: float) -> bool:
        if heads[lane] is None:
            return True
        # If the job of the oldest message is not queued, its time is unknown. Such a message will
        # soon be received.
        return sent[lane] is not None and score < sent[lane] - _REORDER_SECONDS

    return [
        job_id
        for (job_id, score), lane in zip(rows, lane_of, strict=True)
        if lane and is_lost(lane, score)
    ]


def _sent_before(before: float, position: int) -> list[tuple[str, float]]:
    """Returns queued jobs whose message was sent before a time, with that time."""
    with connection.client().pipeline(transaction=False) as pipe:
        for start, count in ((0, _BATCH_SIZE), (position, _SCAN_SIZE)):
            pipe.zrangebyscore(keys.AWAITED, "-inf", before, start, count, withscores=True)
        oldest, others = pipe.execute()
    return list((dict(oldest) | dict(others)).items())
