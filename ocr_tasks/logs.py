"""What the processes of the service say: lines for a person at a terminal, else JSON.

Each line that is about a job carries the job's id, and none carries a secret. A line is one line,
whatever a client has put into a name.
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

#: Passwords in addresses, secrets of webhooks.
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s]+@")
_WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x2028, 0x2029) if code != 9}

_TEXT = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"

#: The job that a thread is at, and the one that the whole process is at.
_thread_job: ContextVar[str] = ContextVar("job", default="")
_process_job = ""


def set_up(level: int | str | None = None) -> None:
    """Has this process log in the form that is set."""
    handler = logging.StreamHandler(sys.stderr)
    dress(handler)
    logging.basicConfig(level=level or settings.get().log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def dress(handler: logging.Handler) -> None:
    """Has a handler write in the form that is set."""
    handler.addFilter(_complete)
    handler.setFormatter(_Json() if is_json() else _Text(_TEXT))


def is_json() -> bool:
    """Whether lines are JSON."""
    chosen = settings.get().log_format
    return chosen == "json" or (chosen == "auto" and not sys.stderr.isatty())


@contextmanager
def about(job_id: str, process: bool = False) -> Iterator[None]:
    """Has what is said in the block be about a job: by this thread, or by the whole process."""
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
    """Finds out which job a line is about, and takes secrets out of it."""
    if not getattr(record, "job", ""):
        record.job = _job_of(record)
    # Celery adds the arguments and results of tasks. The id of such a task is that of its job.
    vars(record).pop("data", None)
    try:
        said = record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library's slip is not to stop what it says it of
        said = f"{record.msg} {record.args}"
    record.msg, record.args = _clean(said), ()
    return True


def _job_of(record: logging.LogRecord) -> str:
    data = getattr(record, "data", None)
    if isinstance(data, dict) and str(data.get("name")).endswith(".ocr_document"):
        return str(data.get("id", ""))
    named = [arg for arg in record.args or () if isinstance(arg, str) and _ID.fullmatch(arg)]
    return named[0] if named else _thread_job.get() or _process_job


def _clean(text: str) -> str:
    text = _PASSWORD.sub(r"\1…@", text)
    text = _WEBHOOK_SECRET.sub("whsec_…", text)
    return TOKEN_TEXT.sub(r"ocrt_\1_…", text)


class _Text(logging.Formatter):
    """One line; what would begin another one is written out."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        record.message = record.message.translate(_CONTROL)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        return _clean(super().formatException(ei))


class _Json(JsonFormatter):
    """An object a line."""

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
        """See pythonjsonlogger; leaves out that a line is about no job or page."""
        super().add_fields(log_data, record, message_dict)
        for name in ("job", "pageno"):
            if not log_data.get(name):
                log_data.pop(name, None)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging calls
        """See logging.Formatter."""
        return _clean(str(super().formatException(ei)))
