"""A thread that sends webhooks, a few at a time to each host.

It runs in the main process of each worker, or alone (`ocr-tasks courier`) where workers have no way
out of their network.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from redis import RedisError

from ocr_tasks import errors, logs, webhooks
from ocr_tasks.jobs import worker_registry
from ocr_tasks.security import url_guard
from ocr_tasks.webhooks import Message, Told

log = logging.getLogger(__name__)

#: Seconds between two looks at what is due, and until a message is taken again whose host is busy.
_LOOK_SECONDS, _CROWDED_SECONDS = 1.0, 5.0

#: Messages that a worker sends at once, in all and to one host.
_AT_ONCE, _AT_ONCE_TO_HOST = 16, 2

#: Messages that are taken in a look, that wait here for one host, and seconds that one waits.
_TAKEN, _WAITING_FOR_HOST, _WAITS_SECONDS = 256, 64, 30.0


class Courier(threading.Thread):
    """Sends what is due. A host that does not answer holds up nobody else's messages."""

    def __init__(self, looked: Callable[[], object] = lambda: None) -> None:
        """`looked` is called after each look at what is due."""
        super().__init__(name="courier", daemon=True)
        self._looked = looked
        self._stopped = False
        self._look = threading.Event()
        self._lock = threading.Lock()
        self._senders: Counter[str] = Counter()
        self._waiting: dict[str, deque[tuple[Message, Told, float]]] = defaultdict(deque)

    def begin(self) -> None:
        """Starts, if it does not run yet."""
        if not self.is_alive():
            self.start()

    def stop(self) -> None:
        """Ends after what is being sent; what is not begun is sent by others."""
        self._stopped = True
        self._look.set()

    def run(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="courier") as pool:
            while not self._stopped:
                self._guard(lambda: self._take(pool))
                self._looked()
                self._look.wait(_LOOK_SECONDS)
                self._look.clear()
            with self._lock:
                left = [row[0] for waiting in self._waiting.values() for row in waiting]
                self._waiting.clear()
            self._guard(lambda: _put_back(left))

    def _guard(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (RedisError, errors.QueueUnavailable) as error:
            log.warning("Redis is away: %s", error)
        except Exception:  # the next look may go better
            log.exception("a look for webhooks failed")

    def _take(self, pool: ThreadPoolExecutor) -> None:
        for message in webhooks.take(_TAKEN):
            told = webhooks.told(message)
            if told is None:
                webhooks.drop(message)
                continue
            host = url_guard.url(told.url).host
            with self._lock:
                crowded = len(self._waiting[host]) >= _WAITING_FOR_HOST
                if not crowded:
                    self._waiting[host].append((message, told, time.monotonic()))
                begin = self._senders[host] < _AT_ONCE_TO_HOST
                self._senders[host] += begin
            if crowded:
                webhooks.postpone(message, _CROWDED_SECONDS)
            if begin:
                pool.submit(self._send_to, host)

    def _send_to(self, host: str) -> None:
        """Sends what waits for a host, one after the other."""
        while True:
            with self._lock:
                if not self._waiting.get(host):
                    self._waiting.pop(host, None)
                    self._senders[host] -= 1
                    break
                message, told, since = self._waiting[host].popleft()
            if time.monotonic() - since < _WAITS_SECONDS:
                self._send(message, told, host)
        self._look.set()

    def _send(self, message: Message, told: Told, host: str) -> None:
        try:
            attempt = webhooks.deliver(message, told)
            said = attempt.status or attempt.reason
            log.info("webhook %s of job %s to %s: %s", message.event, message.job_id, host, said)
        except (RedisError, errors.OcrTasksError) as error:
            log.warning(
                "webhook of job %s: %s", message.job_id, error
            )  # it is due again in a minute
        except Exception:
            log.exception("webhook of job %s", message.job_id)


def main() -> int:
    """Sends webhooks until it is told to stop (SIGTERM, or Ctrl-C)."""
    logs.set_up()
    courier = Courier(worker_registry.show_alive)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: courier.stop())
    courier.begin()
    log.info("sends webhooks")
    courier.join()
    return 0


def _put_back(messages: list[Message]) -> None:
    for message in messages:
        webhooks.postpone(message, 0)
