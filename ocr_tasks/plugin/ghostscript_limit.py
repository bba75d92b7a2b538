"""Limits the time that Ghostscript may take, because OCRmyPDF does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ocrmypdf._exec import ghostscript

from ocr_tasks import settings
from ocr_tasks.plugin import context

#: Seconds that Ghostscript may take per page, in addition to OCR_PAGE_SECONDS.
_SECONDS_PER_PAGE = 2

#: Seconds after which Ghostscript is killed if it does not end.
_KILL_SECONDS = 5

_NAME = "run_polling_stderr"
_run = getattr(ghostscript, _NAME)  # raises if another version of OCRmyPDF does not have it


def install() -> None:
    """Limits Ghostscript in this process. Only jobs have a limit."""
    setattr(ghostscript, _NAME, _run_limited)


def _run_limited(command: Sequence[Any], **arguments: Any) -> Any:
    job = context.owner()
    if job is None:
        return _run(command, **arguments)
    seconds = settings.get().page_seconds + _SECONDS_PER_PAGE * job.total
    limited = ["timeout", f"--kill-after={_KILL_SECONDS}", f"{seconds:g}", *command]
    return _run(limited, **arguments)
