"""`ocr-tasks ocr` with a server that responds as a test needs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SIX_PAGES, wait_until
from tests.unsteady import Request, Server, answers


@pytest.mark.usefixtures("hangup_is_default")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_the_server_creates_during_an_interruption_is_cancelled(
    number: signal.Signals, server: Server, tmp_path: Path
) -> None:
    """The client has sent the document, but does not know the job yet."""
    job = {"id": "j1", "state": "queued", "progress": {"pages_done": 0, "pages_total": 1}}

    def interrupt_and_create(request: Request) -> None:
        process.send_signal(number)
        wait_until(lambda: "cancelling" in log.read_text())
        answers(202, job)(request)

    log = tmp_path / "log"
    server.script = [answers(200, {"service": "ocr-tasks"}), interrupt_and_create]
    server.script += [answers(200, {**job, "state": "cancelled"})]
    command = [sys.executable, "-m", "ocr_tasks.cli", "ocr", SIX_PAGES, "-o", tmp_path / "out.pdf"]
    with log.open("wb") as words:
        process = subprocess.Popen([*command, "--url", server.url], stderr=words)

    assert process.wait(60) == 130
    assert [request.path for request in server.got][-1] == "/v1/jobs/j1/cancel"
