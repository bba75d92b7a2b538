"""What a running stack logs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import documents
from tests.conftest import DATA, free_port, running_stack, submit, wait_for_end, wait_until

pytestmark = pytest.mark.acceptance

PASSWORD = "password-of-redis"


def test_each_line_is_json_with_its_job_and_without_secrets(tmp_path: Path) -> None:
    port = free_port()
    program = shutil.which("redis-server")
    assert program
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
    redis = subprocess.Popen([*command, "--save", ""], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        with (
            running_stack(
                tmp_path,
                OCR_REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0",
                OCR_LOG_FORMAT="json",
                OCR_PLUGINS="tests.plugins.faults",
            ) as stack,
            stack.client() as http,
        ):
            good = submit(http, DATA / "huckleberry-finn-p22.pdf").json()
            bad = submit(
                http, DATA / "huckleberry-finn-p22.pdf", title="fault: crash", on_page_error="fail"
            ).json()
            assert wait_for_end(http, good)["state"] == "succeeded"
            assert wait_for_end(http, bad)["state"] == "failed"
            name = "a\nforged line.pdf"
            refused = submit(http, (name, documents.encrypted("x")))
            assert refused.status_code == 422
            wait_until(lambda: "raised expected" in stack.log.read_text())
        words = stack.log.read_text()
    finally:
        redis.terminate()
        redis.wait()

    assert [line for line in words.splitlines() if line[:1] != "{"] == []
    rows: list[dict[str, Any]] = [json.loads(line) for line in words.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(row) for row in rows)
    for job in (good, bad):
        about = [row["logger"] for row in rows if row.get("job") == job["id"]]
        assert {"celery.worker.strategy", "celery.app.trace"} <= set(about)
    access = [row for row in rows if row["logger"] == "web.access"]
    assert [row["status"] for row in access if row["method"] == "POST"] == [202, 202, 422]
    assert PASSWORD not in words
    assert "stooping" not in words
    assert "forged line" not in words
