"""Folders of documents: finding, remembering and moving files, mostly without a server."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ocr_tasks import cli
from ocr_tasks.client import AsyncClient
from ocr_tasks.exits import UNAVAILABLE
from ocr_tasks.folders import documents, inbox, moving
from ocr_tasks.folders.document_processor import DocumentProcessor
from ocr_tasks.folders.inbox import Inbox, InboxOptions
from ocr_tasks.folders.ledger import Entry, Ledger, Stamp
from tests.conftest import free_port, run_async
from tests.unsteady import Request, Server, hangs_up, refuses

# Moving


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test on a file system with hard links, and on one without."""

    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
def test_a_moved_file_never_replaces_another(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        (tmp_path / "scan.pdf").write_text(text)
        moving.move(tmp_path / "scan.pdf", tmp_path / "deep" / "archive" / "scan.pdf")

    found = {path.name: path.read_text() for path in (tmp_path / "deep" / "archive").iterdir()}
    assert found == {"scan.pdf": "first", "scan-2.pdf": "second", "scan-3.pdf": "third"}
    assert not (tmp_path / "scan.pdf").exists()


@pytest.mark.usefixtures("links")
def test_a_file_is_published_under_a_free_name_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "taken").write_text("taken")

    with pytest.raises(FileExistsError):
        moving.publish(tmp_path / "new", tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "taken"
    moving.publish(tmp_path / "new", tmp_path / "free")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["free", "taken"]
    assert (tmp_path / "free").read_text() == "new"


def test_a_file_can_be_moved_to_another_file_system(tmp_path: Path) -> None:
    places = (Path(name) for name in ("/dev/shm", "/run/user", "/var/tmp", "/tmp", Path.home()))
    elsewhere = next(
        place
        for place in places
        if os.access(place, os.W_OK) and place.stat().st_dev != tmp_path.stat().st_dev
    )
    source = elsewhere / f"ocr-tasks-test-{os.getpid()}.pdf"
    source.write_text("scan")
    (tmp_path / source.name).write_text("taken")

    moved = moving.move(source, tmp_path / source.name)

    assert moved == tmp_path / f"{source.stem}-2.pdf"
    assert moved.read_text() == "scan"
    assert not source.exists()
    assert len(list(tmp_path.iterdir())) == 2


# Finding


def test_documents_are_found_with_their_relative_paths_and_nothing_else_is(tmp_path: Path) -> None:
    for name in (
        *("a.pdf", "B.TIFF", "deep/deeper/c.jpeg", "out/result.pdf"),
        *(".hidden.pdf", "~$a.pdf", "a.pdf.part", "notes.txt", "@eaDir/a.jpg", ".git/a.png"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link.pdf").symlink_to(tmp_path / "a.pdf")
    (tmp_path / "round").symlink_to(tmp_path)

    found = documents.walk(tmp_path, {(tmp_path / "out").resolve()}, pytest.fail)

    places = [row.place.as_posix() for row in found]
    assert sorted(places) == ["B.TIFF", "a.pdf", "deep/deeper/c.jpeg"]


def test_a_pdf_without_its_end_and_an_empty_file_are_unfinished(tmp_path: Path) -> None:
    for name, content, finished in (
        ("whole.pdf", b"%PDF-1.7 ... %%EOF\n", True),
        ("trailing.pdf", b"%PDF-1.7 ... %%EOF\n" + b"\0" * 1000, True),
        ("cut.pdf", b"%PDF-1.7 ..." + b"x" * 5000, False),
        ("empty.png", b"", False),
        ("image.png", b"some", True),
    ):
        (tmp_path / name).write_bytes(content)
        assert documents.is_complete(tmp_path / name) == finished, name


# Remembering

ENTRY = Entry("deep/scan.pdf", Stamp(7, 123456789), "ab" * 32, "wish")


def test_an_entry_is_kept_until_it_is_deleted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.read(ENTRY.name) is None
    assert list(ledger.all()) == []

    done = Entry("b\udce9.pdf", Stamp(1, 2), "cd", "wish", 2, "j1", "b", True, ("b.pdf", "b.txt"))
    ledger.write(ENTRY)
    ledger.write(done)

    assert ledger.read(ENTRY.name) == ENTRY
    assert ledger.read(done.name) == done
    assert {entry.name for entry in ledger.all()} == {ENTRY.name, done.name}
    ledger.delete(ENTRY.name)
    assert ledger.read(ENTRY.name) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "a"}', '{"name": 1, "stamp": {}}'])
def test_a_broken_entry_counts_as_missing(tmp_path: Path, content: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(ENTRY)
    next(tmp_path.glob("*.json")).write_text(content)

    assert ledger.read(ENTRY.name) is None
    assert list(ledger.all()) == []


# Invalid command lines


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["submit", ".", "-o", "out"], "--recursive"),
        (["submit", "none.pdf", "-o", "out"], "file not found: none.pdf"),
        (["submit", __file__, "-o", "out", "--also", "docx"], "--also must be from text, hocr"),
        (["submit", __file__, "-o", "out", "--option", "deskew"], "--option must be NAME=VALUE"),
        (["submit", __file__, "-o", "out", "--url", "localhost:8000"], "--url: must be a URL"),
        (["watch", ".", "out", "--url", "http://"], "--url: must be a URL"),
        (["watch", ".", "out", "--poll", "soon"], "--poll: must be a number, from 0 to 86400"),
        (["submit", __file__, "-o", "out", "-j", "0"], "must be a whole number, from 1 to 100"),
        (["submit", __file__, "-o", __file__], "cannot be created: File exists"),
        (["ocr", __file__, "-o", "."], "is a folder; name a file"),
        (["ocr", __file__, "-o", "a.pdf", "--text", "./a.pdf"], "must be different files"),
        (["watch", ".", "."], "IN must not be the same folder"),
        (["watch", ".", "out", "--archive", "."], "IN must not be the same folder"),
    ],
)
def test_an_invalid_command_line_is_reported(
    words: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    try:
        code: object = cli.main(words)
    except SystemExit as left:  # argparse exits
        code = left.code

    assert code == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_server_that_was_never_reachable_is_reported_at_once(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "ocr_tasks.cli", "submit", __file__, "-o", tmp_path]

    ran = subprocess.run([*command, "--url", url], capture_output=True, text=True, check=False)

    assert ran.returncode == UNAVAILABLE
    assert f"no OCR Tasks server responds at {url}" in ran.stderr


def test_a_missing_folder_is_not_an_invalid_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["watch", str(tmp_path / "none"), str(tmp_path / "out")]) == UNAVAILABLE
    assert "none cannot be read: No such file or directory" in capsys.readouterr().err


# Watching, without a real server


def watch_until(
    folder: Path,
    out: Path,
    archive: Path | None,
    seen: Callable[[list[str]], bool],
    url: str = "",
) -> list[str]:
    """Watches a folder until `seen(messages)` is true; returns the messages.

    Without `url` there is no server.
    """
    said: list[str] = []

    async def run() -> None:
        address = url or f"http://127.0.0.1:{free_port()}"
        async with (
            asyncio.timeout(30),
            AsyncClient(address, token="", patience=0, verify=False) as client,
        ):
            ledger = Ledger(out / "ledger")
            reader = DocumentProcessor(client, out, ledger, {}, ["pdf"])
            manners = InboxOptions(archive, out / "failed", False, 0, 0, 0.05, 2)
            watched = Inbox(folder, reader, ledger, manners, set(), said.append)
            task = asyncio.ensure_future(watched.watch())
            while not seen(said):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.wait([task])

    run_async(run())
    return said


def read_before(folder: Path, out: Path) -> None:
    """Creates the state after a document was processed and the watcher was killed at once."""
    folder.mkdir()
    (folder / "scan.pdf").write_text("scan %%EOF")
    out.mkdir()
    (out / "scan.pdf").write_text("result")
    wish = DocumentProcessor(None, out, Ledger(out), {}, ["pdf"])._options_digest  # type: ignore[arg-type]
    sha256 = documents.sha256_of(folder / "scan.pdf")
    stamp = Stamp.of(folder / "scan.pdf")
    entry = Entry("scan.pdf", stamp, sha256, wish, 0, "j1", "scan", True, ("scan.pdf",))
    Ledger(out / "ledger").write(entry)


def test_what_was_processed_before_a_kill_is_only_moved(tmp_path: Path) -> None:
    folder, out, archive = tmp_path / "in", tmp_path / "out", tmp_path / "archive"
    read_before(folder, out)

    said = watch_until(folder, out, archive, lambda _: (archive / "scan.pdf").exists())

    assert said == []
    assert not (folder / "scan.pdf").exists()
    assert (out / "scan.pdf").read_text() == "result"


def test_a_kept_document_is_recognized_although_its_date_has_changed(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    read_before(folder, out)
    (folder / "scan.pdf").touch()
    stamp = Stamp.of(folder / "scan.pdf")

    def noticed(said: list[str]) -> bool:
        entry = Ledger(out / "ledger").read("scan.pdf")
        return entry is not None and entry.stamp == stamp

    assert watch_until(folder, out, None, noticed) == []
    assert (folder / "scan.pdf").exists()


def test_an_unreachable_server_is_reported_once(tmp_path: Path, server: Server) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        (folder / name).write_text(f"{name} %%EOF")
    server.script = [hangs_up] * 9

    said = watch_until(folder, out, None, lambda _: len(server.got) >= 3, server.url)

    assert len(said) == 1
    assert "does not respond" in said[0]
    assert len(list(folder.iterdir())) == 3


def test_a_missing_folder_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    walk = documents.walk

    def counting(folder: Path, *more: Any) -> Iterator[documents.Document]:
        looks.append(folder)
        return walk(folder, *more)

    monkeypatch.setattr(documents, "walk", counting)
    monkeypatch.setattr(inbox, "_FIRST_PAUSE", 0.02)

    said = watch_until(tmp_path / "in", tmp_path / "out", None, lambda _: len(looks) > 3)

    assert len(said) == 1
    assert f"{tmp_path / 'in'} cannot be read" in said[0]


def test_a_document_that_was_sent_too_early_is_not_marked_as_failed(
    tmp_path: Path, server: Server
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "scan.png").write_text("half")

    def refuses_as_it_grows(request: Request) -> None:
        (folder / "scan.png").write_text("half and half")
        refuses(422, "image_invalid")(request)

    server.script = [refuses_as_it_grows, refuses(422, "image_invalid")]
    reason = out / "failed" / "scan.png.txt"

    watch_until(folder, out, None, lambda _: reason.exists(), server.url)

    assert [b"half and half" in request.body for request in server.got] == [False, True]
    assert (out / "failed" / "scan.png").read_text() == "half and half"
    assert reason.read_text() == "image_invalid\n\nNo. Go.\n"


def test_a_refused_host_name_is_not_an_error_of_the_document(
    tmp_path: Path, server: Server
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "scan.png").write_text("scan")
    server.script = [refuses(400, "host_refused")]

    said = watch_until(folder, out, None, lambda said: bool(said), server.url)

    assert "host_refused" in said[0]
    assert (folder / "scan.png").exists()
