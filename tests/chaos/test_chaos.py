"""The short version of `python -m tests.chaos`, and tests of its checks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import checks
from tests.chaos.jobs import Client
from tests.chaos.run import run
from tests.chaos.stack import Stack
from tests.conftest import wait_until

pytestmark = pytest.mark.acceptance

#: `make chaos` kills 300.
KILLS = 5
SEED = 7


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Returns a data folder: a small file system of its own if this user may mount one."""
    folder = tmp_path / "data"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_no_job_is_lost_or_duplicated_while_everything_is_killed(
    tmp_path: Path, data: Path
) -> None:
    words: list[str] = []
    stack = Stack(tmp_path, data)

    report = run(stack, SEED, KILLS, words.append)

    assert report.violations == [], "\n".join(words)
    assert report.kills >= KILLS
    assert report.jobs >= KILLS
    assert report.ends["succeeded"] > 0


def test_the_checks_detect_errors(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    stack = Stack(tmp_path, data, workers=1, processes=1)
    stack.start()
    client = Client(stack.url, 1, pause=0)
    try:
        client.send()
        (sent,) = client.sent
        sent.poison = sent.cancelled = False
        job = wait_until(lambda: (found := client.job(sent))["state"] == "succeeded" and found, 60)

        def wrong(**changes: object) -> list[str]:
            return checks.wrong_with(client, stack, sent, job | changes)

        assert wrong() == []
        assert checks.left_in_redis(stack) == []
        assert checks.counted_wrongly(stack, [sent]) == []

        assert wrong(state="running") == ["lost: running"]
        assert wrong(state="failed", error={"code": "job_crashed"}) == ["failed with job_crashed"]
        assert wrong(state="cancelled") == ["cancelled by nobody", "a cancelled job has results"]
        sent.pages -= 1
        assert wrong() == [f"{sent.pages + 1} pages instead of {sent.pages}"]
        sent.pages += 1
        sent.code, code = ("ALFA", "BRAVO", "LIMA"), sent.code
        assert len(wrong()) == 2 * sent.pages
        sent.code = code
        # Without a worker, which would clean up.
        stack.servers["worker 0"].process.terminate()
        stack.servers["worker 0"].process.wait(30)
        folder = data / "jobs" / sent.id[:2] / sent.id
        (folder / "work").mkdir()
        (folder / "runs" / "stale").mkdir()
        assert wrong() == ["a work folder is left", "2 runs are left"]
        stack.redis().rpush("ocr", "message")
        stack.redis().zadd("ocr:leases", {sent.id: 1})
        assert len(checks.left_in_redis(stack)) == 2
        stack.redis().delete("ocr", "ocr:leases")
        stack.redis().hincrbyfloat("ocr:stats", "jobs_failed", 1)
        assert checks.counted_wrongly(stack, [sent]) == ["2 ends of 1 runs that were asked for"]
    finally:
        client.close()
        assert stack.stop() == []
