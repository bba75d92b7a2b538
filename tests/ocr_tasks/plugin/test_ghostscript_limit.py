"""Ghostscript is ended after its time, in a job only."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ocr_tasks import settings
from ocr_tasks.plugin import context, ghostscript_limit


class Job:
    total = 1


OPTIONS: dict[str, Any] = {
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.PIPE,
    "encoding": "utf-8",
    "text": True,
    "check": True,
    "callback": lambda line: None,
}


def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_PAGE_SECONDS", "0.1")
    monkeypatch.setattr(ghostscript_limit, "_SECONDS_PER_PAGE", 0)
    monkeypatch.setattr(context, "owner", Job)
    settings.clear()
    try:
        with pytest.raises(subprocess.CalledProcessError) as ended:
            ghostscript_limit._run_limited(["sleep", "600"], **OPTIONS)
    finally:
        settings.clear()

    assert ended.value.returncode == 124  # of timeout(1)


def test_other_programs_that_use_the_plugin_have_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(ghostscript_limit, "_run", lambda command, **_: seen.append(command))

    ghostscript_limit._run_limited(["gs", "-v"])

    assert seen == [["gs", "-v"]]
