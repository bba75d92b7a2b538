"""Flower with the Redis that `ocr-tasks up` starts, which listens on a Unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import documents
from tests.conftest import Stack, submit, wait_for_end, wait_until
from tests.dashboards import flower

pytestmark = pytest.mark.acceptance


def test_jobs_are_shown(stack: Stack, tmp_path: Path) -> None:
    with flower(stack, tmp_path) as running, running.client() as shown, stack.client() as http:
        job = submit(http, ("page.png", documents.encoded(documents.picture("garden"), "PNG")))
        job_id = wait_for_end(http, job.json())["id"]

        def state() -> str:
            return str(shown.get("/api/tasks").json().get(job_id, {}).get("state", ""))

        wait_until(lambda: state() == "SUCCESS")
