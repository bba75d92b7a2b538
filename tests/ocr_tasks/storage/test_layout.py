"""The data folder: atomic writes, free space, and the locations of files."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocr_tasks import errors, settings
from ocr_tasks.model import Artifact
from ocr_tasks.storage import atomic, layout

pytestmark = pytest.mark.usefixtures("service")

JOB = "0b0e0000-0000-4000-8000-000000000001"

Usage = namedtuple("Usage", "total used free")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limits the size of files of this process to this many bytes, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    atomic.write(path, b"before")

    with largest_file(100), pytest.raises(OSError, match="too large"):
        atomic.write(path, bytes(10_000))

    assert path.read_bytes() == b"before"


def test_a_failed_write_creates_no_new_file(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(OSError, match="too large"):
        atomic.write(tmp_path / "page.json", bytes(10_000))

    assert not (tmp_path / "page.json").exists()


def test_a_reader_of_a_file_that_is_replaced_sees_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    atomic.write(path, b"before")
    with path.open("rb") as reader:
        atomic.write(path, b"after!")
        assert reader.read() == b"before"

    assert path.read_bytes() == b"after!"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["page.json"]


def test_uploads_may_not_use_the_reserved_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", "1000")
    settings.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9000, 7500, 1500))

    layout.check_space()
    layout.check_space(500)
    with pytest.raises(errors.StorageFull) as full:
        layout.check_space(501)

    assert full.value.retry_after == 60


def test_the_file_system_is_asked_for_its_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", "0")
    settings.clear()

    layout.check_space()
    with pytest.raises(errors.StorageFull):
        layout.check_space(shutil.disk_usage(settings.get().data_dir).total + 1)


# Locations of files


def test_the_files_of_a_job_are_where_earlier_versions_stored_them() -> None:
    folder = layout.job(JOB)

    root = settings.get().data_dir
    assert folder.path == root / "jobs" / JOB[:2] / JOB
    names = [folder.input, folder.log, folder.page_preview(12)]
    names += [folder.work("a"), folder.artifact("a", "alto")]
    assert [str(path.relative_to(folder.path)) for path in names] == [
        *("input.pdf", "log.txt", "pages/000012/preview.jpg"),
        *("work/a", "runs/a/result.alto.xml"),
    ]
    assert layout.new_upload().parent == root / "uploads"


def test_a_page_that_is_not_stored_has_no_words() -> None:
    folder = layout.job(JOB)
    assert folder.page_words(1) is None

    folder.page(1).mkdir(parents=True)
    (folder.page(1) / "page.json").write_bytes(b"{}")

    assert folder.page_words(1) == b"{}"


def test_all_processes_that_share_a_folder_get_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = {pool.submit(layout.folder_id) for _ in range(16)}
    ids = {future.result() for future in found}

    assert len(ids) == 1
    assert layout.is_id(ids.pop())
    assert [path.name for path in settings.get().data_dir.iterdir()] == ["folder.id"]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, errors.StorageFull),
        (errno.EDQUOT, errors.StorageFull),
        (errno.EIO, errors.StorageUnavailable),
    ],
)
def test_errors_of_the_file_system_become_errors_of_this_project(
    number: int, error: type[errors.ServiceError]
) -> None:
    with pytest.raises(error) as found, layout.storage_errors():
        raise OSError(number, os.strerror(number), "/secret/path")

    assert "/secret" not in str(found.value)


# Folders of jobs


def test_the_folder_of_a_request_becomes_the_folder_of_a_job() -> None:
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-")

    layout.adopt(upload, JOB)

    assert not upload.exists()
    assert layout.job(JOB).input.read_bytes() == b"%PDF-"
    assert list(layout.folders()) == [layout.job(JOB).path]


def test_other_folders_are_not_in_the_list_of_jobs() -> None:
    assert list(layout.folders()) == list(layout.uploads()) == []
    layout.job(JOB).path.mkdir(parents=True)
    (layout.all_jobs() / "0b" / "lost+found").mkdir()
    (layout.all_jobs() / "a file").write_bytes(b"")
    upload = layout.new_upload()

    assert list(layout.folders()) == [layout.job(JOB).path]
    assert list(layout.uploads()) == [upload]


def test_deleting_a_job_deletes_its_folder() -> None:
    folder = layout.job(JOB)
    folder.page(1).mkdir(parents=True)
    (folder.page(1) / "page.json").write_bytes(b"{}")

    layout.delete(JOB)
    layout.delete(JOB)

    assert not folder.path.exists()
    assert list(layout.uploads()) == []


def test_a_run_that_still_writes_does_not_prevent_deleting_a_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = layout.job(JOB)
    folder.page(1).mkdir(parents=True)
    deleted: list[Path] = []
    monkeypatch.setattr(layout, "delete_tree", deleted.append)

    layout.delete(JOB)

    assert not folder.path.exists()
    assert [path.parent.name for path in deleted] == ["uploads"]


def test_the_size_is_the_space_that_a_folder_uses_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "job" / "pages").mkdir(parents=True)
    before = layout.size(tmp_path / "job")
    (tmp_path / "job" / "pages" / "page.json").write_bytes(bytes(1_000_000))
    taken = (tmp_path / "job" / "pages" / "page.json").stat().st_blocks * 512

    assert layout.size(tmp_path / "job") - before == taken >= 1_000_000
    assert layout.size(tmp_path / "gone") == 0


def test_the_age_is_that_of_the_last_written_file(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.mkdir()
    for name, seconds in (("old", 9000), ("new", 500)):
        (path / name).write_bytes(b"")
        os.utime(path / name, (time.time() - seconds, time.time() - seconds))
    os.utime(path, (time.time() - 7000, time.time() - 7000))

    assert 500 <= layout.age(path) < 7000
    assert layout.age(tmp_path / "gone") == 0


def test_deleting_missing_files_and_folders_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")

    for name in ("folder", "file", "nothing"):
        layout.delete_tree(tmp_path / name)

    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []


def test_checking_whether_files_can_be_written_leaves_none() -> None:
    layout.check_writable()

    assert list(settings.get().data_dir.iterdir()) == []


def test_a_folder_that_is_not_writable_is_reported() -> None:
    settings.get().data_dir.write_bytes(b"a file")

    with pytest.raises(errors.StorageUnavailable):
        layout.check_writable()


# Results


@pytest.fixture
def made() -> tuple[Path, Artifact]:
    """Creates a result, and returns its description."""
    folder = layout.job(JOB)
    artifact = layout.write_artifact(folder, "run", "text", [b"first ", b"second"])
    return folder.artifact("run", "text"), artifact


def test_a_result_has_its_size_and_checksum(made: tuple[Path, Artifact]) -> None:
    path, artifact = made

    assert path.read_bytes() == b"first second"
    sha256 = hashlib.sha256(b"first second").hexdigest()
    assert artifact == Artifact("text", "text/plain; charset=utf-8", 12, sha256)
    layout.check_artifact(path, artifact)


def test_a_finished_file_becomes_a_result(tmp_path: Path) -> None:
    (tmp_path / "result.pdf").write_bytes(b"%PDF-1.7")

    artifact = layout.adopt_artifact(layout.job(JOB), "run", "pdf", tmp_path / "result.pdf")

    sha256 = hashlib.sha256(b"%PDF-1.7").hexdigest()
    assert artifact == Artifact("pdf", "application/pdf", 8, sha256)
    assert not (tmp_path / "result.pdf").exists()
    layout.check_artifact(layout.job(JOB).artifact("run", "pdf"), artifact)


def test_a_result_that_changed_after_it_was_described_is_detected(
    made: tuple[Path, Artifact],
) -> None:
    path, artifact = made
    layout.check_artifact(path, artifact)

    path.write_bytes(b"first SECOND")
    os.utime(path, (0, 0))

    with pytest.raises(errors.ResultCorrupt):
        layout.check_artifact(path, artifact)


def test_a_missing_result_differs_from_a_disk_error(made: tuple[Path, Artifact]) -> None:
    path, artifact = made
    path.unlink()
    with pytest.raises(errors.ResultGone):
        layout.check_artifact(path, artifact)

    path.mkdir()
    with pytest.raises(errors.StorageUnavailable):
        layout.check_artifact(path, artifact)
