"""Puts jobs back on the queue that nobody works on although they have not ended.

Runs in the main process of every worker, one at a time in the whole cluster. Two things are lost
now and then: a worker, with the job that it had (its lease then runs out), and a message, because
its sender or receiver died at the wrong moment, or because Redis lost it. The record of the job is
the truth; a message that is published twice does no harm, as only one worker gets the job.
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

#: Seconds between two looks.
INTERVAL = 5.0

#: Seconds from a job's record to its message, and from the message to the claim, that are normal.
_SETTLE = 10.0

#: Two messages that were sent within so many seconds may be in either order.
_DISORDER = 2.0

#: Seconds between two looks for what is due to be deleted, and at all folders.
_RETENTION_INTERVAL = 60.0
_SWEEP_INTERVAL = 3600.0

#: Jobs that one look deals with at most; the next look goes on.
_MOST = 200


class Reconciler(threading.Thread):
    """Looks for what is lost, and deletes what has been kept long enough; see the module."""

    def __init__(self) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._stopped = threading.Event()
        self._looked = time.monotonic()
        self._calm_until = 0.0
        #: When the data folder was last looked at, where other hosts do not share it.
        self._swept_at = -math.inf

    def begin(self) -> None:
        """Starts, if it does not run yet."""
        if not self.is_alive():
            self.start()

    def stop(self) -> None:
        """Ends after what it is at."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.look()
            except (RedisError, errors.QueueUnavailable) as error:
                log.warning("Redis is away: %s", error)
            except (errors.StorageUnavailable, errors.StorageFull) as error:
                log.warning("storage cannot be looked at: %s", error)
            except Exception:  # the next look may go better
                log.exception("a look for what is lost failed")

    def look(self) -> None:
        """Puts back what is lost, and deletes what is due, if no other worker is at it."""
        now = time.monotonic()
        gap = now - self._looked
        uptime = connection.uptime()
        self._looked = now
        lease = settings.get().lease_seconds
        # After a time without Redis nobody has renewed a lease. Whoever lives does so now.
        if gap > 2 * INTERVAL:
            self._calm_until = now + lease
        self._calm_until = max(self._calm_until, now - uptime + lease)
        if not store.get().in_folder and now - self._swept_at > _SWEEP_INTERVAL:
            self._swept_at = now
            retention.sweep_host(retention.Swept())
        if not _turn("jobs", INTERVAL * 0.9):
            return
        if now >= self._calm_until:
            take_over()
        extensions.publish_ready()
        publish_lost()
        swept = retention.Swept()
        if _turn("retention", _RETENTION_INTERVAL):
            retention.expire(swept)
        # A Redis that was started anew or emptied has forgotten this turn, and maybe more.
        every_job = f"storage:{connection.run_id()}"
        if _turn(every_job, _SWEEP_INTERVAL):
            try:
                retention.sweep(swept)
            except errors.ServiceError:
                _give_back_turn(every_job)
                raise
        if swept:
            log.info("deleted what was due: %s", swept)


def _turn(what: str, seconds: float) -> bool:
    """Whether it is time for something that one worker does once in so many seconds."""
    name = keys.TURN_PREFIX + what
    return bool(connection.client().set(name, "1", nx=True, px=int(seconds * 1000)))


def _give_back_turn(what: str) -> None:
    connection.client().delete(keys.TURN_PREFIX + what)


def take_over() -> None:
    """Puts back the jobs whose lease has run out."""
    now = connection.now()
    lost: list[str] = connection.client().zrangebyscore(keys.LEASES, "-inf", now, 0, _MOST)  # type: ignore[assignment]
    for job_id in lost:
        log.warning("the worker of job %s gives no sign of life; putting it back", job_id)
        leases.give_back(job_id, lost=True)


def publish_lost() -> None:
    """Publishes the jobs again that wait, and whose message is in no lane any more."""
    for job_id in overdue(_SETTLE):
        log.warning("the message of job %s is lost; sending it again", job_id)
        lane = connection.client().hget(keys.task(job_id), "lane")
        # Not sent if somebody has claimed it meanwhile.
        if connection.client().zadd(keys.AWAITED, {job_id: connection.now()}, xx=True, ch=True):
            ((record, _),) = lifecycle.backend().records([job_id])
            if "job" in record:
                leases.send(job_id, record, str(lane))


def overdue(seconds: float) -> list[str]:
    """Jobs that wait although their message, sent so many seconds ago, is in no lane any more.

    A lane is first in, first out: what was sent before its oldest message is not in it.
    """
    client = connection.client()
    before = connection.now() - seconds
    rows: list[tuple[str, float]] = client.zrangebyscore(  # type: ignore[assignment]
        keys.AWAITED, "-inf", before, 0, _MOST, withscores=True
    )
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
        # A head that nobody waits for any more says nothing; it will soon be taken.
        return sent[lane] is not None and score < sent[lane] - _DISORDER

    return [
        job_id
        for (job_id, score), lane in zip(rows, lane_of, strict=True)
        if lane and is_lost(lane, score)
    ]
