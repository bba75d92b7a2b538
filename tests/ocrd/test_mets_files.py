"""Changes of runs to a METS file: stored next to it for a while, visible at once, merged later."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import redis

from ocr_tasks.ocrd import mets_files, redis_keys
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.storage import layout
from tests.bags import KANT

KEY = "0123456789abcdef"
ONE, TWO = "PHYS_0017", "PHYS_0020"
PAGE = "application/vnd.prima.page+xml"


@pytest.fixture
def kant(service: redis.Redis, tmp_path: Path) -> Path:
    shutil.copytree(KANT, tmp_path / "kant", copy_function=shutil.copyfile)  # as if just written
    # The number of jobs from which changes are delayed.
    service.sadd(redis_keys.open_jobs(KEY), *(layout.new_id() for _ in range(20)))
    return tmp_path / "kant" / "mets.xml"


def change(kant: Path, group: str, page: str) -> Mets:
    """Returns what a run has written for a page: a file in a group."""
    before, worked_on = (mets_files.excerpt(kant, [page], [group]) for _ in range(2))
    worked_on.add_file(group, f"{group}_{page}", page, PAGE, f"{group}/{page}.xml")
    worked_on.keep_only_changes(before)
    return worked_on


def put(kant: Path, group: str, page: str) -> None:
    mets_files.put(kant, KEY, layout.new_id(), change(kant, group, page), page)


def pending(kant: Path) -> list[Path]:
    return sorted(kant.parent.glob(".mets.xml.pending/*"))


def test_an_excerpt_has_only_the_files_of_its_pages(kant: Path) -> None:
    found = mets_files.excerpt(kant, [ONE], ["OCR-D-IMG"])

    assert found.pages == [ONE]
    assert {file.page for file in found.files()} == {ONE}
    assert found.groups == Mets.read(kant).groups
    assert mets_files.excerpt(kant, None, []).pages == [ONE, TWO]


def test_only_the_changes_of_a_run_are_stored(kant: Path) -> None:
    assert [file.id for file in change(kant, "NEW", ONE).files()] == [f"NEW_{ONE}"]


def test_changes_to_a_page_of_a_large_workspace_are_stored_next_to_the_mets_file_and_visible(
    kant: Path,
) -> None:
    put(kant, "NEW", ONE)

    assert len(pending(kant)) == 1
    assert "NEW" not in kant.read_text()
    assert mets_files.read(kant).pages_of("NEW") == {ONE}
    assert mets_files.excerpt(kant, [ONE], ["NEW"]).pages_of("NEW") == {ONE}
    assert mets_files.excerpt(kant, [TWO], ["NEW"]).pages_of("NEW") == set()


def test_delayed_changes_are_merged_together(kant: Path) -> None:
    put(kant, "NEW", ONE)
    put(kant, "NEW", TWO)

    mets_files.merge_pending(kant, KEY)

    assert Mets.read(kant).pages_of("NEW") == {ONE, TWO}
    assert pending(kant) == []
    assert not (kant.parent / ".mets.xml.pending").exists()


def test_runs_of_all_pages_and_the_last_few_jobs_merge_at_once(
    kant: Path, service: redis.Redis
) -> None:
    mets_files.put(kant, KEY, layout.new_id(), change(kant, "ALL", ONE))
    assert Mets.read(kant).pages_of("ALL") == {ONE}

    service.delete(redis_keys.open_jobs(KEY))
    put(kant, "NEW", ONE)
    assert Mets.read(kant).pages_of("NEW") == {ONE}


def test_changes_of_others_are_merged_when_few_jobs_are_left(
    kant: Path, service: redis.Redis
) -> None:
    put(kant, "NEW", ONE)
    mets_files.merge_pending_if_few_jobs(kant, KEY)
    assert pending(kant)

    service.delete(redis_keys.open_jobs(KEY))
    mets_files.merge_pending_if_few_jobs(kant, KEY)

    assert Mets.read(kant).pages_of("NEW") == {ONE}


def test_a_page_with_a_very_long_id_is_delayed_too(kant: Path) -> None:
    long = "P" * 200
    kant.write_text(kant.read_text().replace(TWO, long))

    put(kant, "NEW", long)

    assert mets_files.excerpt(kant, [long], []).pages_of("NEW") == {long}


def test_readers_never_miss_a_change_while_others_write(kant: Path) -> None:
    numbers = range(12)
    ended = threading.Event()
    missed: list[set[str]] = []

    def look() -> None:
        seen: set[str] = set()
        while not ended.is_set():
            now = set(mets_files.read(kant).groups)
            missed.extend([seen - now] if seen - now else [])
            seen |= now

    def write(number: int) -> None:
        put(kant, f"G{number}", ONE)
        mets_files.merge_pending(kant, KEY)

    watcher = threading.Thread(target=look)
    watcher.start()
    writers = [threading.Thread(target=write, args=(number,)) for number in numbers]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    ended.set()
    watcher.join()

    assert missed == []
    assert {f"G{number}" for number in numbers} <= set(Mets.read(kant).groups)


def test_ocr_d_can_parse_an_excerpt(kant: Path, ocrd_bin: Path) -> None:
    own = kant.with_name("own.xml")
    mets_files.excerpt(kant, [ONE], ["OCR-D-IMG"]).write(own)

    done = subprocess.run(
        [ocrd_bin / "ocrd", "workspace", "-d", kant.parent, "-m", own.name, "list-page"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [ONE]
