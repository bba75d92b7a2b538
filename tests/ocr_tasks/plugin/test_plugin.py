"""Stored results of pages, pages that fail, and the input of helpers."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import socket
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ocrmypdf._jobcontext import PageContext
from ocrmypdf._options import OcrOptions
from ocrmypdf._pipelines._common import PageResult, set_thread_pageno
from ocrmypdf.exceptions import MissingDependencyError, TesseractConfigError
from PIL import Image

from ocr_tasks import errors
from ocr_tasks.jobs import page_queue
from ocr_tasks.plugin import batch, context, helper, previews, reading
from ocr_tasks.plugin.batch import Files
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.plugin.reading import Reading
from ocr_tasks.storage import layout

pytestmark = pytest.mark.usefixtures("service")

JOB = "0b0e0000-0000-4000-8000-000000000001"
BATCH = "run:1"

HOCR = """<html xmlns="http://www.w3.org/1999/xhtml"><body>
<div class="ocr_page" title="bbox 0 0 800 600; scan_res 150 150">
<div class="ocr_carea" title="bbox 10 10 200 40"><p class="ocr_par" title="bbox 10 10 200 40">
<span class="ocr_line" title="bbox 10 10 200 40">
<span class="ocrx_word" title="bbox 10 10 90 40; x_wconf 90">zebra</span>
<span class="ocrx_word" title="bbox 100 10 200 40; x_wconf 70">window</span>
</span></p></div></div></body></html>"""


@pytest.fixture
def kept() -> PageStore:
    return PageStore(layout.job(JOB))


def result(folder: Path, number: int, hocr: str = HOCR, rotation: int = 0) -> PageResult:
    """Returns OCRmyPDF's result for a page."""
    files = {name: folder / f"{number}.{name}" for name in ("hocr", "txt", "pdf")}
    for path, content in zip(files.values(), (hocr, "zebra window", "%PDF-"), strict=True):
        path.write_text(content)
    return PageResult(
        pageno=number - 1,
        ocr=files["hocr"],
        text=files["txt"],
        pdf_page_from_image=files["pdf"],
        orientation_correction=rotation,
    )


# Stored pages


def test_a_stored_page_equals_the_recognized_one(kept: PageStore, tmp_path: Path) -> None:
    saved = kept.save(result(tmp_path, 3, rotation=90))
    for path in tmp_path.iterdir():
        layout.delete_tree(path) if path.name != "data" else None

    loaded = kept.load(3)

    assert loaded == saved
    assert loaded is not None
    assert (loaded.pageno, loaded.orientation_correction) == (2, 90)
    assert loaded.ocr is not None
    assert loaded.text is not None
    assert loaded.pdf_page_from_image is not None
    assert loaded.ocr.read_text() == HOCR
    assert loaded.text.read_text() == "zebra window"
    assert loaded.pdf_page_from_image.read_text() == "%PDF-"


def test_the_words_of_a_stored_page_are_returned(kept: PageStore, tmp_path: Path) -> None:
    assert not kept.has_words(1)
    kept.save(result(tmp_path, 1, rotation=180))

    assert kept.has_words(1)
    page = kept.words(1)
    assert [word.text for word in page.words] == ["zebra", "window"]
    assert page.rotation == 180
    summary = json.loads((layout.job(JOB).page(1) / "summary.json").read_bytes())
    assert summary == {
        "failed": False,
        "source": "ocr",
        "confidence": pytest.approx(0.8, abs=0.05),
        "words": 2,
        "worker": socket.gethostname(),
    }


def test_a_page_without_words_is_stored_as_empty(kept: PageStore, tmp_path: Path) -> None:
    kept.save(result(tmp_path, 1, hocr=""))

    assert list(kept.words(1).words) == []
    assert kept.load(1) is not None


@pytest.mark.parametrize("missing", ["result.json", "ocr.hocr", "text.txt", "visible.pdf"])
def test_a_page_is_processed_again_if_any_of_its_files_is_missing(
    missing: str, kept: PageStore, tmp_path: Path
) -> None:
    kept.save(result(tmp_path, 1))
    (layout.job(JOB).page(1) / missing).unlink()

    assert kept.load(1) is None


def test_what_only_another_run_needs_is_deleted_at_the_end(kept: PageStore, tmp_path: Path) -> None:
    for number in (1, 2):
        kept.save(result(tmp_path, number))

    kept.drop_intermediate(3)

    left = {path.name for number in (1, 2) for path in layout.job(JOB).page(number).iterdir()}
    assert left == {"page.json", "summary.json"}


def test_pages_are_stored_on_a_disk_without_hard_links(
    kept: PageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    kept.save(result(tmp_path, 1))

    loaded = kept.load(1)
    assert loaded is not None
    assert loaded.ocr is not None
    assert loaded.ocr.read_text() == HOCR


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "CMYK"])
def test_a_preview_is_a_small_jpeg_of_any_page(mode: str, tmp_path: Path) -> None:
    page = Image.new(mode, (1000, 1400))

    previews.from_picture(page, tmp_path / "preview.jpg", 250)
    previews.from_picture(page, tmp_path / "large.jpg", 5000)

    with Image.open(tmp_path / "preview.jpg") as small, Image.open(tmp_path / "large.jpg") as large:
        assert (small.format, small.size) == ("JPEG", (250, 350))
        assert small.mode == ("RGB" if mode not in ("1", "L") else "L")
        assert large.size == page.size


# OCR of a page


def page(tmp_path: Path, number: int = 1, **more: Any) -> Any:
    """The attributes of OCRmyPDF's page context that the plugin uses."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    info = SimpleNamespace(has_text=more.get("has_text", False))
    wanted = SimpleNamespace(pages=more.get("pages"))
    return SimpleNamespace(pageno=number - 1, work_folder=work, options=wanted, pageinfo=info)


def test_each_attempt_at_a_page_has_its_own_temporary_folder(
    kept: PageStore, tmp_path: Path
) -> None:
    seen: list[Path] = []

    def task(at: Any) -> PageResult:
        assert context.page() == 7
        (at.work_folder / "large").write_bytes(b"")
        seen.append(at.work_folder)
        raise RuntimeError

    mine = page(tmp_path, 7)
    for _ in range(2):
        reading.read_page(kept, task, mine)

    assert len(set(seen)) == 2
    assert {path.parent for path in seen} == {tmp_path / "work"} == {mine.work_folder}
    assert list((tmp_path / "work").iterdir()) == []
    assert context.page() is None


def test_later_messages_of_the_thread_are_not_about_the_page(
    kept: PageStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def task(at: Any) -> PageResult:
        set_thread_pageno(at.pageno + 1)
        return result(at.work_folder, 3)

    reading.read_page(kept, task, page(tmp_path, 3))

    logging.getLogger("ocrmypdf").warning("about the document")
    assert getattr(caplog.records[-1], "pageno", None) is None


def test_a_recognized_page_is_stored_and_not_processed_again(
    kept: PageStore, tmp_path: Path
) -> None:
    def task(at: Any) -> PageResult:
        return result(at.work_folder, 1)

    first = reading.read_page(kept, task, page(tmp_path))
    second = reading.read_page(kept, lambda at: pytest.fail("read"), page(tmp_path))

    assert (first.read, first.kept, first.failure) == (True, False, None)
    assert (second.read, second.kept, second.failure) == (True, True, None)
    assert second.result == first.result


def test_a_failed_page_is_reported_and_not_stored(kept: PageStore, tmp_path: Path) -> None:
    def own(at: Any) -> PageResult:
        raise errors.PageTimeout("after a while")

    def foreign(at: Any) -> PageResult:
        raise RuntimeError("/secret/path")

    ours = reading.read_page(kept, own, page(tmp_path, 4))
    theirs = reading.read_page(kept, foreign, page(tmp_path, 4))

    assert ours.failure is not None
    assert (ours.failure.page, ours.failure.code) == (4, "page_timeout")
    assert ours.failure.message == "after a while"
    assert theirs.failure is not None
    assert theirs.failure.code == "page_unreadable"
    assert "secret" not in theirs.failure.message
    assert (ours.read, ours.result.pageno) == (False, 3)
    assert kept.load(4) is None


@pytest.mark.parametrize(
    "error",
    [MissingDependencyError, TesseractConfigError, MemoryError, OSError, context.RunYielded],
)
def test_an_error_that_is_not_specific_to_a_page_ends_the_run(
    error: type[Exception], kept: PageStore, tmp_path: Path
) -> None:
    def task(at: Any) -> PageResult:
        raise error

    with pytest.raises(error):
        reading.read_page(kept, task, page(tmp_path))


@pytest.mark.parametrize(
    ("has_text", "wanted", "read"),
    [
        (True, None, True),
        (True, {0, 4}, True),
        (True, {4}, False),
        (False, None, False),
        (False, {0}, False),
    ],
)
def test_a_selected_page_that_already_had_text_counts_as_successful(
    has_text: bool, wanted: set[int] | None, read: bool, kept: PageStore, tmp_path: Path
) -> None:
    asked = page(tmp_path, 1, has_text=has_text, pages=wanted)

    found = reading.read_page(kept, lambda at: PageResult(pageno=at.pageno), asked)

    assert (found.read, found.kept, found.failure) == (read, False, None)
    assert kept.load(1) is None


def test_a_page_that_kills_its_processes_is_skipped(tmp_path: Path) -> None:
    found = reading.crashed(page(tmp_path, 3))

    assert found.failure is not None
    assert (found.failure.page, found.failure.code) == (3, "page_crashed")


# Input of helpers


def test_helpers_find_each_item_and_the_task(tmp_path: Path) -> None:
    files = Files(tmp_path / "batch")
    with pytest.raises(FileNotFoundError):
        files.task()

    files.write(max, list, [("first", 1), ("second", "x" * 5000), ("third", 3)])

    assert files.task() == (max, list)
    assert [files.argument(item)[0] for item in (2, 0, 1)] == ["third", "first", "second"]
    files.write_result(1, "holder", {"an": "answer"})
    assert files.pop_result(1, "holder") == {"an": "answer"}
    with pytest.raises(FileNotFoundError):
        files.pop_result(1, "holder")


def test_helpers_get_nothing_that_cannot_be_pickled(tmp_path: Path) -> None:
    files = Files(tmp_path / "batch")

    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        files.write(max, list, [(threading.Lock(),)])
    with pytest.raises(FileNotFoundError):
        files.task()


def test_a_page_of_ocrmypdf_reaches_a_helper_with_its_options(tmp_path: Path) -> None:
    sent = PageContext.__new__(PageContext)
    sent.pageno, sent.work_folder, sent.origin = 3, tmp_path, tmp_path / "in.pdf"
    sent.options = OcrOptions(input_file="in.pdf", output_file="out.pdf", languages=["deu"])
    sent.options.pages = {3, 5}
    sent.plugin_manager = batch._plugin_manager(())
    files = Files(tmp_path / "batch")

    files.write(max, list, [(sent,)])
    (found,) = files.argument(0)

    assert (found.pageno, found.work_folder) == (3, tmp_path)
    assert found.options.languages == ["deu"]
    assert found.options.pages == {3, 5}
    assert found.plugin_manager is sent.plugin_manager
    assert sent.options.pages == {3, 5}


@pytest.mark.parametrize("name", ["run", "run:x", "../other:1", "a/b:1", ":1", "..:1"])
def test_only_names_of_batches_lead_to_pickles(name: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        helper.files(layout.job(JOB), name)


def test_the_files_of_a_batch_are_in_the_work_folder_of_its_run() -> None:
    folder = layout.job(JOB)
    name = helper.batch_name("run", 12)

    assert helper.files(folder, name).folder == folder.work("run") / "batches" / "12"


def warns(job: context.JobContext, number: int) -> Reading:
    job.warnings[f"page {number} is pale"] = None
    return Reading(PageResult(pageno=number))


def test_a_helper_reports_the_warnings_of_each_page_once() -> None:
    job = context.JobContext(layout.job(JOB), 0)
    done = partial(helper._with_warnings, job=job)

    first, second = (done(warns(job, number)) for number in (1, 2))

    assert first.warnings == ("page 1 is pale",)
    assert second.warnings == ("page 2 is pale",)
    assert done("no page") == "no page"


@pytest.fixture
def helped() -> tuple[context.JobContext, Files]:
    """Creates a batch of three items of a job, and its files."""
    job = context.JobContext(layout.job(JOB), 0)
    files = helper.files(job.folder, BATCH)
    page_queue.open_batch(BATCH, range(3))
    return job, files


def test_a_helper_releases_what_it_cannot_do_and_stops(
    helped: tuple[context.JobContext, Files],
) -> None:
    job, files = helped
    files.write(int, list, [("no number",), ("1",), ("2",)])

    assert not helper.help_with(job, BATCH, lambda: True)

    assert page_queue.collect(BATCH, 0.1) is None
    assert [page_queue.acquire(BATCH, "owner") for _ in range(4)] == [0, 1, 2, None]


def test_a_helper_continues_until_another_message_waits(
    helped: tuple[context.JobContext, Files],
) -> None:
    job, files = helped
    files.write(int, list, [("0",), ("1",), ("2",)])
    waits = iter([False, True])

    assert helper.help_with(job, BATCH, lambda: next(waits))

    found = [page_queue.collect(BATCH, 1) for _ in range(2)]
    assert [done.item for done in found if done] == [0, 1]
    assert len({done.holder for done in found if done}) == 1
    assert page_queue.acquire(BATCH, "owner") == 2


def test_a_helper_stops_when_the_batch_is_closed(
    helped: tuple[context.JobContext, Files],
) -> None:
    job, files = helped
    files.write(int, list, [("0",), ("1",), ("2",)])
    page_queue.close(BATCH)

    assert not helper.help_with(job, BATCH, lambda: False)


def test_a_helper_leaves_a_batch_of_another_version_to_its_owner(
    helped: tuple[context.JobContext, Files], caplog: pytest.LogCaptureFixture
) -> None:
    job, files = helped
    files.write(int, list, [("0",), ("1",), ("2",)])
    for pickled in (b"cocr_tasks.plugin.gone\nname\n.", b"cocr_tasks.plugin.batch\ngone\n."):
        (files.folder / "task").write_bytes(pickled)

        assert not helper.help_with(job, BATCH, lambda: False)

    assert page_queue.acquire(BATCH, "owner") == 0
    assert caplog.text.count("another version") == 2
