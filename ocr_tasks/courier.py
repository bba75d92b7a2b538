"""A thread of a worker's main process that sends webhooks, a few at a time."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from redis import RedisError

from ocr_tasks import errors, jobs, webhooks
from ocr_tasks.model import Job
from ocr_tasks.webhooks import Message

log = logging.getLogger("ocr_tasks.courier")

#: Seconds between two looks at what is due, and until a message is taken again whose host is busy.
_LOOK_SECONDS, _CROWDED_SECONDS = 1.0, 5.0

#: Messages that a worker sends at once, in all and to one host.
_AT_ONCE, _AT_ONCE_TO_HOST = 8, 2


class Courier(threading.Thread):
    """Sends what is due; see the module."""

    def __init__(self) -> None:
        super().__init__(name="courier", daemon=True)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()

    def begin(self) -> None:
        """Starts, if it does not run yet."""
        if not self.is_alive():
            self.start()

    def stop(self) -> None:
        """Ends after what is being sent; what is not begun is sent by others."""
        self._stopped.set()

    def run(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="courier") as pool:
            while not self._stopped.wait(_LOOK_SECONDS):
                try:
                    for message in webhooks.take(_AT_ONCE - sum(self._busy.values())):
                        self._begin(pool, message)
                except (RedisError, errors.QueueUnavailable) as error:
                    log.warning("Redis is away: %s", error)
                except Exception:  # the next look may go better
                    log.exception("a look for webhooks failed")

    def _begin(self, pool: ThreadPoolExecutor, message: Message) -> None:
        try:
            job = jobs.read(message.job_id)
        except (errors.JobNotFound, errors.JobDeleted):
            webhooks.drop(message)
            return
        if job.callback is None:
            webhooks.drop(message)
            return
        host = httpx.URL(job.callback.url).host
        with self._lock:
            if self._busy[host] >= _AT_ONCE_TO_HOST:
                webhooks.postpone(message, _CROWDED_SECONDS)
                return
            self._busy[host] += 1
        pool.submit(self._send, message, job, host)

    def _send(self, message: Message, job: Job, host: str) -> None:
        try:
            attempt = webhooks.deliver(message, job)
            said = attempt.status or attempt.reason
            log.info("webhook %s of job %s to %s: %s", message.event, job.id, host, said)
        except (RedisError, errors.OcrTasksError) as error:
            log.warning("webhook of job %s: %s", job.id, error)  # it is due again in a minute
        except Exception:
            log.exception("webhook of job %s", job.id)
        finally:
            with self._lock:
                self._busy[host] -= 1
