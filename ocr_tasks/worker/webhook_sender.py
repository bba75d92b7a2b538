"""The thread that sends webhooks, up to two at a time to each host.

It runs in the main process of each worker. `ocr-tasks courier` runs it as a separate process, for
workers without access to other networks.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from redis import RedisError

from ocr_tasks import errors, logs, webhooks
from ocr_tasks.jobs import worker_registry
from ocr_tasks.security import url_guard
from ocr_tasks.webhooks import Message, Notification

log = logging.getLogger(__name__)

#: Seconds between two checks for due messages, and until a message is due again whose host has too
#: many.
_CHECK_INTERVAL, _BUSY_HOST_SECONDS = 1.0, 5.0

#: Messages that this process sends at the same time, in total and to one host.
_CONCURRENCY, _CONCURRENCY_PER_HOST = 16, 2

#: Messages acquired per check, messages that may wait in memory for one host, and seconds after
#: which a waiting message is left to another process. It is less than `webhooks` leases messages.
_BATCH_SIZE, _QUEUE_PER_HOST, _MAX_QUEUE_SECONDS = 256, 64, 30.0


class WebhookSender(threading.Thread):
    """Sends due webhooks. A host that does not respond does not delay messages to other hosts."""

    def __init__(self, on_check: Callable[[], object] = lambda: None) -> None:
        """`on_check` is called after each check for due messages."""
        super().__init__(name="webhooks", daemon=True)
        self._on_check = on_check
        self._stopped = False
        self._wakeup = threading.Event()
        self._lock = threading.Lock()
        #: Threads of the pool that send to each host.
        self._senders: Counter[str] = Counter()
        #: Messages in memory for each host, with the monotonic time at which they were acquired.
        self._queues: dict[str, deque[tuple[Message, Notification, float]]] = defaultdict(deque)

    def begin(self) -> None:
        """Starts the thread if it is not running."""
        if not self.is_alive():
            self.start()

    def stop(self) -> None:
        """Ends the thread after the messages that are being sent; releases the others."""
        self._stopped = True
        self._wakeup.set()

    def run(self) -> None:
        with ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="webhooks") as pool:
            while not self._stopped:
                self._guard(lambda: self._acquire(pool))
                self._on_check()
                self._wakeup.wait(_CHECK_INTERVAL)
                self._wakeup.clear()
            with self._lock:
                unsent = [row[0] for queue in self._queues.values() for row in queue]
                self._queues.clear()
            self._guard(lambda: _release(unsent))

    def _guard(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (RedisError, errors.QueueUnavailable) as error:
            log.warning("Redis is unavailable: %s", error)
        except Exception:  # keep running: the next check may succeed
            log.exception("could not check for webhooks")

    def _acquire(self, pool: ThreadPoolExecutor) -> None:
        for message in webhooks.acquire(_BATCH_SIZE):
            # One message that cannot be sent must not prevent the others.
            self._guard(partial(self._enqueue, message, pool))

    def _enqueue(self, message: Message, pool: ThreadPoolExecutor) -> None:
        notification = webhooks.notification(message)
        if notification is None:
            webhooks.drop(message)
            return
        host = url_guard.url(notification.url).host
        with self._lock:
            full = len(self._queues[host]) >= _QUEUE_PER_HOST
            if not full:
                self._queues[host].append((message, notification, time.monotonic()))
            add_sender = self._senders[host] < _CONCURRENCY_PER_HOST
            self._senders[host] += add_sender
        if full:
            webhooks.postpone(message, _BUSY_HOST_SECONDS)
        if add_sender:
            pool.submit(self._send_to, host)

    def _send_to(self, host: str) -> None:
        """Sends the queued messages of a host one after another."""
        while True:
            with self._lock:
                if not self._queues.get(host):
                    self._queues.pop(host, None)
                    self._senders[host] -= 1
                    break
                message, notification, since = self._queues[host].popleft()
            if time.monotonic() - since < _MAX_QUEUE_SECONDS:
                self._send(message, notification, host)
        self._wakeup.set()

    def _send(self, message: Message, notification: Notification, host: str) -> None:
        try:
            attempt = webhooks.deliver(message, notification)
            result = attempt.status or attempt.reason
            log.info("webhook %s of job %s to %s: %s", message.event, message.job_id, host, result)
        except (RedisError, errors.OcrTasksError) as error:
            # The message is due again after a minute.
            log.warning("could not send a webhook of job %s: %s", message.job_id, error)
        except Exception:
            log.exception("could not send a webhook of job %s", message.job_id)


def main() -> int:
    """Sends webhooks until the process receives SIGTERM or SIGINT; returns the exit code."""
    logs.set_up()
    sender = WebhookSender(worker_registry.touch_alive_file)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sender.stop())
    sender.begin()
    log.info("sending webhooks")
    sender.join()
    return 0


def _release(messages: list[Message]) -> None:
    for message in messages:
        webhooks.postpone(message, 0)
