"""The Celery application: configuration, the queue, the names of the tasks.

The API publishes tasks by name and so never imports one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

from celery import Celery
from redis.connection import parse_url

from ocr_tasks import extensions, settings

#: The queues, by the priority of what waits there. `pages` is where helpers wait for pages of
#: somebody else's document: any document goes first, as it may be a small one.
LANES = {
    "interactive": "ocr.interactive",
    "normal": "ocr",
    "pages": "ocr.pages",
    "bulk": "ocr.bulk",
}

#: Queues of extensions that this worker consumes in addition to those of documents.
SHARED_QUEUES: list[str] = []

#: One of so many messages is taken from the last lane that has any, so that no lane starves.
LAST_LANE_EVERY = 5

OCR_DOCUMENT = "ocr_tasks.tasks.ocr_document"
READ_PAGES = "ocr_tasks.tasks.read_pages"

#: Seconds between a job's soft end (an exception in its process) and its hard one (SIGKILL).
HARD_LIMIT_GRACE = 10


#: A process that has grown beyond this is replaced after its job, as it keeps its memory.
LARGE_CHILD_KIB = 2 * 1024 * 1024


def name_queue_of_pages(folder: str) -> None:
    """Has helpers' messages go to a queue of those who share this data folder, given by its id."""
    LANES["pages"] = f"ocr.pages.{folder}"


def queue_of(lane: str) -> str:
    """The queue of a lane; an extension's lane is the name of its queue."""
    return LANES.get(lane, lane)


def _configuration(config: settings.Settings) -> dict[str, object]:
    return {
        "broker_url": config.celery_redis.replace("socket://", "redis+socket://", 1),
        "broker_use_ssl": _tls(config.redis),
        "result_backend": "ocr_tasks.jobs.result_backend:JobBackend",
        "result_expires": None,  # a job is kept until it is deleted
        "imports": ["ocr_tasks.worker.tasks", *_extension_tasks()],
        "task_default_queue": LANES["normal"],
        # JSON only: whoever can write to Redis must not be able to run code in a worker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # A message is acknowledged when its job has ended, so a stopped worker gives it back.
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
            # Longer than any job may run, else Redis would hand a running job to a second worker.
            "visibility_timeout": config.job_seconds + 3600,
            "unacked_mutex_expire": 10,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 3,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "queue_order_strategy": "ocr_tasks.jobs.celery_app:LaneOrder",
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


def _tls(address: str) -> dict[str, Any] | None:
    """How the broker speaks TLS to Redis, None: not at all. As redis-py does by the same address.

    Left to itself, Celery takes any certificate, and Flower has no TLS.
    """
    if not address.startswith("rediss://"):
        return None
    asked = parse_url(address)  # type: ignore[no-untyped-call]
    options = {name: value for name, value in asked.items() if name.startswith("ssl_")}
    verify = str(options.get("ssl_cert_reqs", "required")).upper()
    return {**options, "ssl_cert_reqs": ssl.VerifyMode[f"CERT_{verify}"]}


class LaneOrder:
    """The order in which a worker asks its queues for a message.

    Interface: `kombu.utils.scheduling.round_robin_cycle`, of which this takes the place.
    """

    def __init__(self) -> None:
        self._lanes: list[str] = []
        self._taken = 0

    @staticmethod
    def _rank(lane: str) -> int:
        order = {name: rank for rank, name in enumerate(LANES.values())}
        if lane in SHARED_QUEUES:  # these take turns with documents
            return order[LANES["normal"]]
        # Others are the only ones of their worker, or carry replies, e.g. to Flower.
        return order.get(lane, -1)

    def update(self, lanes: Iterable[str]) -> None:
        """These are the queues to ask."""
        self._lanes = sorted(lanes, key=self._rank)

    def consume(self, count: int) -> list[str]:
        """The queues, the first to be asked first."""
        last_first = self._taken % LAST_LANE_EVERY == LAST_LANE_EVERY - 1
        return (self._lanes[::-1] if last_first else self._lanes)[:count]

    def rotate(self, lane: str) -> None:
        """A message was taken from this queue."""
        self._taken += 1
        if lane in self._lanes:
            # Queues of one rank are asked in turn.
            self._lanes.remove(lane)
            self._lanes = sorted([*self._lanes, lane], key=self._rank)


app = Celery("ocr_tasks")
app.config_from_object(_configuration(settings.get()))
