"""Log lines: the job that they belong to, and what they never contain."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from ocr_tasks import logs, settings

JOB = "2d6c6d1c-3f0a-4a63-9d0b-5a7d0f5d2a11"
TOKEN = "ocrt_0123456789ab_" + "0f" * 32


@pytest.fixture(params=["json", "text"])
def said(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Returns what the logger `test` writes, in either format."""
    monkeypatch.setenv("OCR_LOG_FORMAT", request.param)
    settings.clear()
    words = io.StringIO()
    handler = logging.StreamHandler(words)
    logs.dress(handler)
    logger = logging.getLogger("test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield words
    logger.removeHandler(handler)
    settings.clear()


def row(words: io.StringIO) -> dict[str, object]:
    (line,) = words.getvalue().splitlines()
    return json.loads(line) if line.startswith("{") else {"message": line}


log = logging.getLogger("test")


@pytest.mark.parametrize("said", ["json"], indirect=True)
def test_a_line_has_its_time_level_process_and_job(said: io.StringIO) -> None:
    log.warning("job %s is late", JOB)

    found = row(said)
    assert found["message"] == f"job {JOB} is late"
    assert (found["level"], found["logger"], found["job"]) == ("WARNING", "test", JOB)
    assert str(found["time"]).startswith("20")
    assert isinstance(found["pid"], int)


@pytest.mark.parametrize("said", ["json"], indirect=True)
def test_a_line_without_a_job_names_none(said: io.StringIO) -> None:
    log.info("hello")

    assert "job" not in row(said)


@pytest.mark.parametrize("said", ["json"], indirect=True)
def test_lines_during_a_job_name_the_job(said: io.StringIO) -> None:
    with logs.about(JOB, process=True):
        log.info("reading")

    assert row(said)["job"] == JOB


@pytest.mark.parametrize("said", ["json"], indirect=True)
def test_celerys_lines_about_a_task_name_its_job(said: io.StringIO) -> None:
    data = {"id": JOB, "name": "ocr_tasks.tasks.ocr_document", "kwargs": {"title": "secret"}}
    log.info("Task received", extra={"data": data})

    assert row(said)["job"] == JOB
    assert "secret" not in said.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "Connected to redis://:hunter2@127.0.0.1:6379/0",
        "Connected to rediss://user:hunter2@host/0",
        "Connected to redis://user:hunter2@hunter2@host/0",
        f"Authorization: Bearer {TOKEN}",
        "secret whsec_hunter2hunter2",
    ],
)
def test_secrets_are_redacted(said: io.StringIO, text: str) -> None:
    log.error("%s", text)
    log.error(text)

    assert "hunter2" not in said.getvalue()
    assert "0f" * 32 not in said.getvalue()


def test_secrets_are_redacted_in_tracebacks(said: io.StringIO) -> None:
    log.error("failed", exc_info=ConnectionError("redis://:hunter2@host"))

    assert "ConnectionError" in said.getvalue()
    assert "hunter2" not in said.getvalue()


def test_a_line_with_wrong_arguments_is_still_written(said: io.StringIO) -> None:
    log.info("%d pages of %s", "seven")

    assert "seven" in said.getvalue()


def test_line_breaks_cannot_forge_a_line(said: io.StringIO) -> None:
    log.info("name %s", "a.pdf\n2026-01-01 00:00:00 ERROR MainProcess root: forged\x1b[31m\u2028x")

    assert len(said.getvalue().splitlines()) == 1
    assert "forged" in said.getvalue()
    assert "\x1b" not in said.getvalue()
