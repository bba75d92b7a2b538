"""Files in the data folder: whole or not there at all, and only while there is room."""

from __future__ import annotations

import resource
import shutil
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocr_tasks import errors, settings, storage

pytestmark = pytest.mark.usefixtures("service")

Usage = namedtuple("Usage", "total used free")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_could_not_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    storage.write(path, b"before")

    with largest_file(100), pytest.raises(OSError, match="too large"):
        storage.write(path, bytes(10_000))

    assert path.read_bytes() == b"before"


def test_a_new_file_that_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(OSError, match="too large"):
        storage.write(tmp_path / "page.json", bytes(10_000))

    assert not (tmp_path / "page.json").exists()


def test_who_reads_a_file_that_is_written_again_sees_it_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    storage.write(path, b"before")
    with path.open("rb") as reader:
        storage.write(path, b"after!")
        assert reader.read() == b"before"

    assert path.read_bytes() == b"after!"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["page.json"]


def test_what_comes_in_may_not_take_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", "1000")
    settings.get.cache_clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9000, 7500, 1500))

    storage.check_room()
    storage.check_room(500)
    with pytest.raises(errors.StorageFull) as full:
        storage.check_room(501)

    assert full.value.retry_after == 60


def test_the_disk_itself_is_asked_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", "0")
    settings.get.cache_clear()

    storage.check_room()
    with pytest.raises(errors.StorageFull):
        storage.check_room(shutil.disk_usage(settings.get().data_dir).total + 1)
