"""Logging setup: plain text on a terminal, otherwise JSON (OCR_LOG_FORMAT).

A line about a job contains the job's id. Passwords, webhook secrets and tokens are masked. Control
characters are escaped, so that a file name cannot add a line to the log.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from ocr_tasks import settings
from ocr_tasks.model import TOKEN_TEXT

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Passwords in URLs, and secrets of webhooks.
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s]+@")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x2028, 0x2029) if code != 9}

_TEXT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"

#: The job that a thread is working on, and the one that the whole process is working on.
_thread_job: ContextVar[str] = ContextVar("job", default="")
_process_job = ""


def set_up(level: int | str | None = None) -> None:
    """Configures logging to standard error for this process. `level` overrides OCR_LOG_LEVEL."""
    handler = logging.StreamHandler(sys.stderr)
    dress(handler)
    logging.basicConfig(level=level or settings.get().log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def dress(handler: logging.Handler) -> None:
    """Sets the filter and the formatter of a handler."""
    handler.addFilter(_complete)
    handler.setFormatter(_Json() if is_json() else _Text(_TEXT))


def is_json() -> bool:
    """Returns whether log lines are JSON."""
    chosen = settings.get().log_format
    return chosen == "json" or (chosen == "auto" and not sys.stderr.isatty())


@contextmanager
def about(job_id: str, process: bool = False) -> Iterator[None]:
    """Adds a job's id to the log lines of the block.

    Applies to the current thread, or to all threads if `process` is true.
    """
    global _process_job
    token = _thread_job.set(job_id)
    if process:
        _process_job = job_id
    try:
        yield
    finally:
        _thread_job.reset(token)
        if process:
            _process_job = ""


def _complete(record: logging.LogRecord) -> bool:
    """Sets the record's job and masks secrets in its message. Keeps all records."""
    if not getattr(record, "job", ""):
        record.job = _job_of(record)
    # Celery adds the arguments and results of tasks, which do not belong in the log.
    vars(record).pop("data", None)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library's format string does not match its args
        message = f"{record.msg} {record.args}"
    record.msg, record.args = _mask(message), ()
    return True


def _job_of(record: logging.LogRecord) -> str:
    data = getattr(record, "data", None)
    if isinstance(data, dict) and str(data.get("name")).endswith(".ocr_document"):
        return str(data.get("id", ""))
    ids = [arg for arg in record.args or () if isinstance(arg, str) and _ID.fullmatch(arg)]
    return ids[0] if ids else _thread_job.get() or _process_job


def _mask(text: str) -> str:
    text = _PASSWORD.sub(r"\1…@", text)
    text = _WEBHOOK_SECRET.sub("whsec_…", text)
    return TOKEN_TEXT.sub(r"ocrt_\1_…", text)


class _Text(logging.Formatter):
    """Formats a record as one line of text, with control characters escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        record.message = record.message.translate(_CONTROL)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        return _mask(super().formatException(ei))


class _Json(JsonFormatter):
    """Formats a record as a JSON object on one line."""

    def __init__(self) -> None:
        super().__init__(
            "{message}{levelname}{name}{processName}{process}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger", "process": "pid"},
            timestamp="time",
        )

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """See pythonjsonlogger. Omits `job` and `pageno` if they are empty."""
        super().add_fields(log_data, record, message_dict)
        for name in ("job", "pageno"):
            if not log_data.get(name):
                log_data.pop(name, None)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        return _mask(str(super().formatException(ei)))
