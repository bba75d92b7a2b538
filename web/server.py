"""The gunicorn configuration: `gunicorn --config python:web.server "web.app:create_app()"`."""

from __future__ import annotations

import gc
from typing import Any

from ocr_tasks import logs, settings
from ocr_tasks.redis import counters

_config = settings.get()

bind = (
    f"[{_config.host}]:{_config.port}" if ":" in _config.host else f"{_config.host}:{_config.port}"
)
worker_class = "web.http.slow_clients.PacedWorker"
# Worker processes are forked after the application is loaded, and share its memory.
preload_app = True
workers = _config.web_processes
threads = _config.web_threads
# With threads, this only detects a process that is stuck as a whole. Requests may take longer.
timeout = 120
graceful_timeout = 3
keepalive = 30
control_socket_disable = True
umask = 0o077  # uploads are readable by this user only
# Only `request_origin` decides which proxies are trusted.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
loglevel = "warning" if _config.log_level == "INFO" else _config.log_level.lower()
# A heartbeat file on a disk would block the worker when the disk is slow.
worker_tmp_dir = "/dev/shm"  # noqa: S108  # gunicorn's heartbeat file


def worker_exit(server: Any, worker: Any) -> None:
    """Writes the counters of the process to Redis before it exits."""
    counters.flush()


def on_starting(arbiter: Any) -> None:
    """Sets up logging for gunicorn.

    Gunicorn's own handlers would log rejected headers, which can contain secrets.
    """
    logs.set_up()
    for handler in arbiter.log.error_log.handlers:
        logs.dress(handler)
    gc.freeze()  # loaded objects are permanent and stay shared with the worker processes
    gc.enable()  # `ocr-tasks web` disabled it for loading


def post_worker_init(worker: Any) -> None:
    """Starts the thread that writes the process's counters to Redis.

    Loaded objects are permanent, so they are excluded from garbage collection.
    """
    counters.keep_flushing()
    gc.freeze()
