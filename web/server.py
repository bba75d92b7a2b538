"""Configuration of gunicorn: `gunicorn --config python:web.server "web.app:create_app()"`."""

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
# The processes are forked from one that has loaded the application, and share its memory.
preload_app = True
workers = _config.web_processes
threads = _config.web_threads
# With threads this only catches a process that is stuck as a whole; requests may take longer.
timeout = 120
graceful_timeout = 3
keepalive = 30
control_socket_disable = True
umask = 0o077  # what people send is nobody else's business
# Whom to believe about the client is decided in one place, `origins`.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
loglevel = "warning" if _config.log_level == "INFO" else _config.log_level.lower()
# Uploads go to the data folder; nothing of ours belongs on the disk of /tmp.
worker_tmp_dir = "/dev/shm"  # noqa: S108  # gunicorn's heartbeat file, which must not be on a disk


def worker_exit(server: Any, worker: Any) -> None:
    """Writes what the process has counted and not written yet."""
    counters.flush()


def on_starting(arbiter: Any) -> None:
    """Has gunicorn log as we do; it would also log secrets, in headers that it does not take."""
    logs.set_up()
    for handler in arbiter.log.error_log.handlers:
        logs.dress(handler)
    gc.freeze()  # what is loaded stays, and is shared with the children
    gc.enable()  # `ocr-tasks web` has disabled it while it loaded


def post_worker_init(worker: Any) -> None:
    """Has the requests of a process be counted with those of the others.

    The application is loaded, and stays: nobody looks for garbage there, now or at the end.
    """
    counters.keep_flushing()
    gc.freeze()
