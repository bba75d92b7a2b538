"""The Celery application: its configuration, its queues and the names of its tasks.

The web server publishes tasks by name, without importing them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

from celery import Celery
from redis.connection import parse_url

from ocr_tasks import extensions, settings

#: The queues of documents by priority, the most urgent first. `pages` has the messages to helpers,
#: which process pages of a document that another process owns. Only bulk documents come after them:
#: any other document that waits may be small.
QUEUES = {
    "interactive": "ocr.interactive",
    "normal": "ocr",
    "pages": "ocr.pages",
    "bulk": "ocr.bulk",
}

#: Queues of extensions that this worker consumes in addition to those in QUEUES.
EXTENSION_QUEUES: list[str] = []

#: One in this number of messages is taken from the least urgent queue that has any, to prevent
#: starvation.
LAST_QUEUE_EVERY = 5

#: Names of tasks, not of modules: messages in Redis and other programs contain them.
OCR_DOCUMENT = "ocr_tasks.tasks.ocr_document"
READ_PAGES = "ocr_tasks.tasks.read_pages"

#: Seconds between the soft time limit of a job (an exception in its process) and the hard one
#: (SIGKILL).
HARD_LIMIT_GRACE = 10


#: Resident memory of a child in KiB above which it is replaced after its job, because it does not
#: return freed memory to the system.
LARGE_CHILD_KIB = 2 * 1024 * 1024


def use_helper_queue_of(folder: str) -> None:
    """Makes messages to helpers go to the queue of a data folder, given by its id."""
    QUEUES["pages"] = f"ocr.pages.{folder}"


def queue_of(lane: str) -> str:
    """Returns the Celery queue of a key of QUEUES; the queue of an extension is its own key."""
    return QUEUES.get(lane, lane)


def _configuration(config: settings.Settings) -> dict[str, object]:
    return {
        "broker_url": config.celery_redis.replace("socket://", "redis+socket://", 1),
        "broker_use_ssl": _tls(config.redis),
        "result_backend": "ocr_tasks.jobs.result_backend:JobBackend",
        "result_expires": None,  # a job is kept until it is deleted
        "imports": ["ocr_tasks.worker.tasks", *_extension_tasks()],
        "task_default_queue": QUEUES["normal"],
        # JSON only: write access to Redis must not allow running code in a worker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Messages are acknowledged after the job, so Celery restores those of a stopped worker.
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_soft_time_limit": config.job_seconds,
        "task_time_limit": config.job_seconds + HARD_LIMIT_GRACE,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            # Longer than any job may run. Otherwise a second worker would get the message of a
            # running job.
            "visibility_timeout": config.job_seconds + 3600,
            "unacked_mutex_expire": 10,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 3,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "queue_order_strategy": "ocr_tasks.jobs.celery_app:QueueOrder",
        },
        "worker_proc_alive_timeout": 60,
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": LARGE_CHILD_KIB,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "task_send_sent_event": True,
    }


def _extension_tasks() -> list[str]:
    return [name for extension in extensions.installed() for name in extension.task_modules]


def _tls(url: str) -> dict[str, Any] | None:
    """Returns the broker's TLS options, the same as redis-py uses for the URL; None without TLS.

    By default, Celery accepts any certificate, and Flower does not use TLS.
    """
    if not url.startswith("rediss://"):
        return None
    parsed = parse_url(url)  # type: ignore[no-untyped-call]
    options = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    verify = str(options.get("ssl_cert_reqs", "required")).upper()
    return {**options, "ssl_cert_reqs": ssl.VerifyMode[f"CERT_{verify}"]}


class QueueOrder:
    """The order in which a worker polls its queues.

    Replaces `kombu.utils.scheduling.round_robin_cycle` and has its interface.
    """

    def __init__(self) -> None:
        self._queues: list[str] = []
        self._received = 0

    @staticmethod
    def _rank(queue: str) -> int:
        order = {name: rank for rank, name in enumerate(QUEUES.values())}
        if queue in EXTENSION_QUEUES:  # same priority as documents
            return order[QUEUES["normal"]]
        # The others are the only queues of their worker, or carry replies, e.g. to Flower.
        return order.get(queue, -1)

    def update(self, queues: Iterable[str]) -> None:
        """Replaces the queues to poll."""
        self._queues = sorted(queues, key=self._rank)

    def consume(self, count: int) -> list[str]:
        """Returns the first `count` queues in the order in which to poll them."""
        last_first = self._received % LAST_QUEUE_EVERY == LAST_QUEUE_EVERY - 1
        return (self._queues[::-1] if last_first else self._queues)[:count]

    def rotate(self, queue: str) -> None:
        """Notes that a message was received from a queue."""
        self._received += 1
        if queue in self._queues:
            # Queues of the same rank take turns.
            self._queues.remove(queue)
            self._queues = sorted([*self._queues, queue], key=self._rank)


app = Celery("ocr_tasks")
app.config_from_object(_configuration(settings.get()))
