"""Configuration of gunicorn: `gunicorn --config python:web.server "web.app:create_app()"`."""

from __future__ import annotations

import logging
from typing import Any

from ocr_tasks import settings
from ocr_tasks.model import TOKEN_TEXT

_config = settings.get()

bind = (
    f"[{_config.host}]:{_config.port}" if ":" in _config.host else f"{_config.host}:{_config.port}"
)
worker_class = "web.pace.PacedWorker"
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


class _NoSecrets(logging.Filter):
    """Leaves of a token only its id: gunicorn logs headers that it does not understand."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        record.msg, record.args = TOKEN_TEXT.sub(r"ocrt_\1_…", record.getMessage()), ()
        return True


def on_starting(arbiter: Any) -> None:
    """Keeps secrets out of the log."""
    arbiter.log.error_log.addFilter(_NoSecrets())
