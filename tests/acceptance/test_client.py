"""The Python client, `ocr-tasks submit` and `ocr-tasks watch`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_tasks.client import ApiError, AsyncClient, Client, Job
from tests import documents
from tests.acceptance.conftest import away, make_token, open_gate
from tests.acceptance.test_main_job import text_of
from tests.conftest import Stack, run_async, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("closed")]

#: It has the structure of a complete PDF, and no content.
BROKEN = b"%PDF-1.7\nnothing\n%%EOF\n"


@pytest.fixture(scope="module")
def own(closed: Stack) -> Iterator[Stack]:
    """A stack, with a token in the environment of its commands."""
    closed.settings["OCR_TOKEN"] = make_token(closed, "submit", "read")
    yield closed
    del closed.settings["OCR_TOKEN"]


@pytest.fixture
def http(own: Stack) -> Iterator[httpx.Client]:
    with own.client(headers={"Authorization": f"Bearer {token(own)}"}) as client:
        yield client


def token(own: Stack) -> str:
    return own.settings["OCR_TOKEN"]


@pytest.fixture
def fresh(tmp_path: Path) -> tuple[str, str]:
    """Returns an option that makes documents differ from those of other tests and retries."""
    return "--option", f"title={tmp_path.name}"


def jobs(http: httpx.Client) -> list[dict[str, Any]]:
    return http.get("/v1/jobs?limit=200").json()["jobs"]


def command(own: Stack, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", "ocr_tasks.cli", *map(str, words), "--url", own.url]


def run(own: Stack, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(own, *words), env=own.environment, capture_output=True, text=True, timeout=120
    )


@contextlib.contextmanager
def running(own: Stack, log: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in the background; kills it at the end if it is still running."""
    with log.open("ab") as said:
        process = subprocess.Popen(
            command(own, *words), env=own.environment, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# The Python client


def test_all_calls_work_with_the_client(own: Stack, tmp_path: Path) -> None:
    told: list[Job] = []
    (tmp_path / "scan.pdf").write_bytes(documents.scan("garden", "window"))

    with Client(own.url, token(own), verify=False) as client:
        assert client.alive()
        assert client.ready()
        sent = client.submit(tmp_path / "scan.pdf", languages="eng", title="Über Gärten")
        job = client.wait(sent.id, told.append)
        events = list(client.events(job))
        client.download(job, "pdf", tmp_path / "out.pdf")
        hocr = io.BytesIO()
        client.download(job, "hocr", hocr)

        assert job.succeeded
        assert job.progress.pages_done == job.input.pages == 2
        assert job.options["title"] == "Über Gärten"
        assert told[-1] == job
        assert [row.progress.percent for row in told] == sorted(
            row.progress.percent for row in told
        )
        assert events[-1].job == job
        assert list(client.events(job, last_event_id=events[-1].id)) == []
        assert "garden" in text_of((tmp_path / "out.pdf").read_bytes())
        assert b"ocr_page" in hocr.getvalue()
        assert "window" in client.text(job)
        assert job.id in [row.id for row in client.jobs("succeeded")]
        assert client.cancel(job) == job
        with pytest.raises(ApiError) as refused:
            client.retry(job)
        assert refused.value.code == "job_not_retryable"
        client.delete(job)
        with pytest.raises(ApiError) as gone:
            client.job(job)
        assert (gone.value.status, gone.value.code) == (410, "job_deleted")


def test_all_calls_work_with_the_asyncio_client(own: Stack, tmp_path: Path) -> None:
    async def round() -> None:
        async with AsyncClient(own.url, token(own), verify=False) as client:
            assert await client.alive()
            assert await client.ready()
            picture = documents.encoded(documents.picture("summer"), "PNG")
            key = tmp_path.name
            sent = await client.submit(("a.png", picture), idempotency_key=key)
            again = await client.submit(("a.png", io.BytesIO(picture)), idempotency_key=key)
            assert sent.id == again.id
            events = [event async for event in client.events(sent)]
            assert events[-1].job.succeeded
            job, other = await asyncio.gather(client.wait(sent), client.wait(sent.id))
            assert job == other == events[-1].job
            await client.download(job, "pdf", tmp_path / "out.pdf")
            assert "summer" in text_of((tmp_path / "out.pdf").read_bytes())
            assert "summer" in await client.text(job)
            assert job.id in [row.id async for row in client.jobs()]
            with pytest.raises(ApiError, match="damaged"):
                await client.submit(BROKEN)
            await client.delete(job)

    run_async(round())


# ocr-tasks submit


def test_a_second_call_processes_only_what_is_missing(
    own: Stack, http: httpx.Client, tmp_path: Path, fresh: tuple[str, str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    (scans / "deep").mkdir(parents=True)
    (scans / "a.pdf").write_bytes(documents.scan("garden"))
    (scans / "deep" / "b.png").write_bytes(
        documents.encoded(documents.picture("window"), "PNG", dpi=(150, 150))
    )
    (scans / "deep" / "bad.pdf").write_bytes(BROKEN)
    (scans / "deep" / "notes.txt").write_text("no document")
    asked = ("submit", scans, "-o", out, "--recursive", "--also", "text,hocr", "--jobs", "2")
    asked += fresh
    before = len(jobs(http))

    first = run(own, *asked)
    assert first.returncode == 70, first.stderr
    assert "pdf_invalid" in first.stderr
    assert "2 processed, 1 failed" in first.stderr
    assert set(first.stdout.split()) == {
        str(out / name)
        for name in (
            *("a.pdf", "a.txt", "a.hocr"),
            *("deep/b.pdf", "deep/b.txt", "deep/b.hocr"),
        )
    }
    assert "garden" in text_of((out / "a.pdf").read_bytes())
    assert "window" in (out / "deep" / "b.txt").read_text()

    made = (out / "a.pdf").stat().st_mtime_ns
    (scans / "deep" / "bad.pdf").write_bytes(documents.scan("summer"))
    (scans / "a.pdf").touch()
    second = run(own, *asked)
    assert second.returncode == 0, second.stderr
    assert "1 processed, 2 already done" in second.stderr
    assert "summer" in (out / "deep" / "bad.txt").read_text()
    assert (out / "a.pdf").stat().st_mtime_ns == made

    # A changed file is processed again; a deleted result is downloaded again.
    (scans / "a.pdf").write_bytes(documents.scan("letter"))
    (out / "deep" / "b.txt").unlink()
    third = run(own, *asked)
    assert third.returncode == 0, third.stderr
    assert "2 processed, 1 already done" in third.stderr
    assert "letter" in (out / "a.txt").read_text()
    assert "window" in (out / "deep" / "b.txt").read_text()
    # Another result format of a finished document needs no OCR.
    fourth = run(own, *asked, "--also", "json")
    assert fourth.returncode == 0, fourth.stderr
    assert "3 processed" in fourth.stderr
    assert '"letter"' in (out / "a.json").read_text()
    assert len(jobs(http)) == before + 4
    assert not list(out.rglob("*-2*"))


def test_a_killed_call_resumes_the_same_jobs(
    own: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    files = [tmp_path / "one.pdf", tmp_path / "two.pdf"]
    files[0].write_bytes(documents.scan("garden", "bridge"))
    files[1].write_bytes(documents.scan("bridge", "garden"))
    out, log = tmp_path / "out", tmp_path / "log"
    before = len(jobs(http))
    # No job ends before its client is killed.
    gated = ("--option", "title=fault: gate")

    with running(own, log, "submit", files[0], "-o", out, *gated):
        wait_until(lambda: len(jobs(http)) == before + 1)
    with running(own, log, "submit", *files, "-o", out, *gated) as interrupted:
        wait_until(lambda: len(jobs(http)) == before + 2)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(60) == 130, log.read_text()
    assert "run the same command to resume" in log.read_text()
    for job in jobs(http)[:2]:
        open_gate(own, job)
    again = run(own, "submit", *files, "-o", out, *gated)

    assert again.returncode == 0, again.stderr
    assert len(jobs(http)) == before + 2
    assert "bridge" in text_of((out / "one.pdf").read_bytes())
    assert "bridge" in text_of((out / "two.pdf").read_bytes())


def test_failed_and_cancelled_documents_are_tried_again(
    own: Stack, http: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "scan.pdf").write_bytes(documents.scan("winter"))
    asked = ("submit", tmp_path / "scan.pdf", "-o", tmp_path / "out")
    asked += ("--option", "title=fault: gate")
    before = len(jobs(http))
    with running(own, tmp_path / "log", *asked):
        wait_until(lambda: len(jobs(http)) == before + 1)
        job = jobs(http)[0]
        http.post(job["links"]["cancel"])
    open_gate(own, job)
    again = run(own, *asked)

    result = tmp_path / "out" / "scan.pdf"
    assert again.returncode == 0, again.stderr
    assert "winter" in text_of(result.read_bytes())
    assert len(jobs(http)) == before + 1

    # The server has deleted the job, to which the key still refers.
    http.delete(job["links"]["self"])
    result.unlink()
    with running(own, tmp_path / "log", *asked) as anew:
        wait_until(lambda: len(jobs(http)) == before + 1)
        open_gate(own, jobs(http)[0])
        assert anew.wait(60) == 0, (tmp_path / "log").read_text()
    assert "winter" in text_of(result.read_bytes())


def test_files_of_others_are_not_overwritten(own: Stack, tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(documents.scan("garden"))
    original = (tmp_path / "scan.pdf").read_bytes()

    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "scan.pdf").write_bytes(documents.scan("window"))
    asked = ("submit", tmp_path / "scan.pdf", tmp_path / "deep" / "scan.pdf", "-o", tmp_path)

    ran = run(own, *asked)
    # The call's own result is not a new document.
    again = run(own, "submit", *tmp_path.glob("*.pdf"), "-o", tmp_path)

    assert ran.returncode == 0, ran.stderr
    results = {str(tmp_path / "scan-2.pdf"), str(tmp_path / "scan-3.pdf")}
    assert set(ran.stdout.split()) == results
    texts = " ".join(text_of(Path(name).read_bytes()) for name in results)
    assert "garden" in texts
    assert "window" in texts
    assert (tmp_path / "scan.pdf").read_bytes() == original
    assert (again.returncode, again.stdout) == (0, "")


# ocr-tasks watch


def test_a_watched_folder_survives_restarts_and_outages(
    own: Stack, http: httpx.Client, tmp_path: Path, fresh: tuple[str, str]
) -> None:
    inbox, out, archive = tmp_path / "in", tmp_path / "out", tmp_path / "archive"
    (inbox / "desk").mkdir(parents=True)
    log = tmp_path / "log"
    asked = ("watch", inbox, out, "--archive", archive, "--settle", "0.3", "--jobs", "2", *fresh)

    def archived(name: str) -> bool:
        return (archive / name).exists()

    with running(own, log, *asked):
        # A scanner writes in chunks, with pauses longer than the settling time of a file.
        slow = documents.scan("garden", "window")
        (inbox / "desk" / "slow.pdf").write_bytes(slow[: len(slow) // 2])
        (inbox / ".hidden.pdf").write_bytes(slow)
        (inbox / "upload.pdf.part").write_bytes(slow)
        (inbox / "broken.pdf").write_bytes(BROKEN)
        (inbox / "scan.pdf").write_bytes(documents.scan("summer"))
        wait_until(lambda: archived("scan.pdf"))
        assert not (out / "desk").exists()
        with (inbox / "desk" / "slow.pdf").open("ab") as file:
            file.write(slow[len(slow) // 2 :])
        wait_until(lambda: archived("desk/slow.pdf"))
        wait_until((out / "failed" / "broken.pdf.txt").exists)

        # Another document with the name of an earlier one.
        first = (out / "scan.pdf").read_bytes()
        (inbox / "scan.pdf").write_bytes(documents.scan("letter"))
        wait_until(lambda: archived("scan-2.pdf"))
        known = len(jobs(http))

        # The watcher is killed while a document is being processed …
        (inbox / "long.pdf").write_bytes(documents.scan("bridge", "winter"))
        wait_until(lambda: len(jobs(http)) == known + 1)
    with running(own, log, *asked) as watcher:
        wait_until(lambda: archived("long.pdf"))
        assert len(jobs(http)) == known + 1

        # … and the server is down when the next one arrives.
        with away(own):
            (inbox / "later.png").write_bytes(
                documents.encoded(documents.picture("bridge"), "PNG", dpi=(150, 150))
            )
            wait_until(lambda: "does not respond" in log.read_text())
        wait_until(lambda: archived("later.png"))
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(60) == 0

    assert "window" in text_of((out / "desk" / "slow.pdf").read_bytes())
    assert (out / "scan.pdf").read_bytes() == first
    assert "letter" in text_of((out / "scan-2.pdf").read_bytes())
    assert "winter" in text_of((out / "long.pdf").read_bytes())
    assert "bridge" in text_of((out / "later.pdf").read_bytes())
    assert (out / "failed" / "broken.pdf").read_bytes() == BROKEN
    assert "pdf_invalid" in (out / "failed" / "broken.pdf.txt").read_text()
    left = sorted(path.name for path in inbox.rglob("*") if path.is_file())
    assert left == [".hidden.pdf", "upload.pdf.part"]


def test_no_document_is_moved_because_of_an_error_of_the_administrator(
    own: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, out, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    inbox.mkdir()
    (inbox / "scan.pdf").write_bytes(documents.scan("summer"))
    asked = ("watch", inbox, out, "--settle", "0.1", "--delete")

    for variable, words, reason in (
        ("ocrt_wrong", (), "not_authenticated"),
        (token(own), ("--languages", "tlh"), "language_unavailable"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(own.settings, "OCR_TOKEN", variable)
            with running(own, log, *asked, *words):
                wait_until(lambda reason=reason: reason in log.read_text())
        assert (inbox / "scan.pdf").exists()
        assert not (out / "failed").exists()

    with running(own, log, *asked):
        wait_until(lambda: not (inbox / "scan.pdf").exists())
    assert "summer" in text_of((out / "scan.pdf").read_bytes())


def test_a_document_that_stays_in_a_watched_folder_is_processed_once(
    own: Stack, http: httpx.Client, tmp_path: Path, fresh: tuple[str, str]
) -> None:
    inbox, out, log = tmp_path / "in", tmp_path / "in" / "out", tmp_path / "log"
    inbox.mkdir()
    (inbox / "scan.pdf").write_bytes(documents.scan("winter"))
    # An unfinished PDF is sent after a while; the server repairs it or refuses it.
    (inbox / "cut.pdf").write_bytes(documents.scan("garden")[:2000])
    asked = ("watch", inbox, out, "--settle", "0.1", "--unfinished", "1", "--poll", "0.1")
    asked += fresh

    for _ in range(2):
        with running(own, log, *asked) as watcher:
            wait_until((out / "scan.pdf").exists)
            wait_until((out / "failed" / "cut.pdf.txt").exists)
            known = len(jobs(http))
            # The result of a later document shows that this one has been checked.
            name = f"next-{known}"
            (inbox / f"{name}.pdf").write_bytes(documents.scan(f"page {known}"))
            wait_until((out / f"{name}.pdf").exists)
            assert len(jobs(http)) == known + 1
            watcher.terminate()
            assert watcher.wait(60) == 0

    assert (inbox / "scan.pdf").exists()
    assert not (out / "scan-2.pdf").exists()
