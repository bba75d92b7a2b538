"""Workspaces: uploaded with a real checking process, downloaded, found, replaced, deleted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import fetching, redis_keys, workspaces
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.storage import layout
from tests.bags import KANT, Builder, contents, kant, mets
from tests.ocrd.sites import Site, serving

pytestmark = pytest.mark.usefixtures("service")


def received(
    content: bytes | None = None, owner: str = "me", workspace_id: str | None = None
) -> Workspace:
    folder = layout.new_upload()
    archive = folder / "upload-00001"
    archive.write_bytes(kant().build() if content is None else content)
    return workspaces.receive(folder, archive, owner, workspace_id)


def left() -> list[Path]:
    """Returns the contents of `uploads`."""
    return [path for folder in layout.uploads() for path in folder.iterdir()]


def test_a_bag_becomes_a_workspace(tmp_path: Path) -> None:
    workspace = received()

    assert layout.is_id(workspace.id)
    assert (workspace.identifier, workspace.owner) == ("a:work", "me")
    assert workspace.mets == tmp_path / "data/workspaces" / workspace.id / "data/mets.xml"
    assert contents(workspace.folder) == contents(KANT)
    assert {row.name for row in workspace.folder.parent.iterdir()} == {"workspace.json", "data"}
    assert workspaces.read(workspace.id, "me") == workspaces.read(workspace.id, None) == workspace
    assert left() == []


def test_a_refusal_has_the_message_of_the_check(tmp_path: Path) -> None:
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="which does not exist"):
        received(Builder().with_mets(mets("IMG/gone.tif")).build())
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="not a ZIP file"):
        received(b"")
    assert workspaces.listed(None) == []
    assert not (tmp_path / "data/workspaces").exists()


def test_the_limits_in_settings_apply_in_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_OCRD_MAX_FILES", "3")
    settings.clear()
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="more than 3 files"):
        received()


def test_the_reserve_of_the_disk_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", str(shutil.disk_usage(tmp_path).total))
    settings.clear()

    with pytest.raises(errors.StorageFull):
        received()


def test_each_owner_sees_only_their_own_workspaces() -> None:
    mine, theirs = received(), received(owner="them")

    assert workspaces.listed("me") == [mine]
    assert workspaces.listed(None) == [mine, theirs]
    for ask in (workspaces.read, workspaces.delete):
        with pytest.raises(ocrd_errors.WorkspaceNotFound):
            ask(theirs.id, "me")
    with pytest.raises(ocrd_errors.WorkspaceNotFound):
        workspaces.find(str(theirs.mets), "me")
    with pytest.raises(ocrd_errors.WorkspaceNotFound):
        received(workspace_id=theirs.id)
    assert workspaces.read(theirs.id, "them") == theirs


def test_a_workspace_is_created_with_an_id_and_replaced() -> None:
    first = received(workspace_id="my.work-1")
    assert first.id == "my.work-1"
    second = received(Builder().build(), workspace_id="my.work-1")

    assert set(contents(second.folder)) == {"mets.xml", "IMG/a.tif"}
    assert workspaces.listed("me") == [second]
    assert workspaces.key(first) == workspaces.key(second)
    assert left() == []


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", ".x", "-x", "x" * 65, "a\n", "ä"])
def test_invalid_ids_are_refused(text: str) -> None:
    with pytest.raises(ocrd_errors.WorkspaceInvalid):
        received(workspace_id=text)
    with pytest.raises(ocrd_errors.WorkspaceNotFound):
        workspaces.read(text, None)


def test_a_workspace_with_jobs_is_neither_replaced_nor_deleted(service: redis.Redis) -> None:
    workspace = received(workspace_id="w")
    service.sadd(redis_keys.open_jobs(workspaces.key(workspace)), "job")

    with pytest.raises(ocrd_errors.WorkspaceBusy):
        workspaces.delete("w", "me")
    with pytest.raises(ocrd_errors.WorkspaceBusy):
        received(Builder().build(), workspace_id="w")
    assert contents(workspace.folder) == contents(KANT)


def test_a_deleted_workspace_leaves_a_tombstone() -> None:
    workspace = received()
    assert workspaces.delete(workspace.id, "me") == workspace

    assert [path.name for path in workspace.folder.parent.iterdir()] == ["workspace.json"]
    assert workspaces.listed(None) == []
    for ask in (workspaces.read, workspaces.delete):
        with pytest.raises(ocrd_errors.WorkspaceDeleted):
            ask(workspace.id, "me")
        with pytest.raises(ocrd_errors.WorkspaceNotFound):
            ask(workspace.id, "them")
    with pytest.raises(ocrd_errors.WorkspaceNotFound):
        workspaces.find(str(workspace.mets), "me")
    assert left() == []

    assert received(workspace_id=workspace.id) == workspaces.read(workspace.id, "me")


def test_a_packed_workspace_can_be_uploaded_again() -> None:
    workspace = received()
    again = received(b"".join(workspaces.pack(workspace)))
    assert again.identifier == workspace.identifier
    assert contents(again.folder) == contents(KANT)


# METS files by path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Creates a folder of OCR_OCRD_FOLDERS with a METS file, and another folder around it."""
    folder = tmp_path / "outside/shelf"
    (folder / "work").mkdir(parents=True)
    (folder / "work/mets.xml").write_text("x")
    (tmp_path / "outside/secret.xml").write_text("x")
    monkeypatch.setenv("OCR_OCRD_FOLDERS", str(folder))
    settings.clear()
    return folder


def test_a_workspace_is_found_by_the_path_of_its_mets_file(shelf: Path) -> None:
    workspace = received()
    roundabout = workspace.folder / ".." / "data" / "mets.xml"
    assert workspaces.find(str(roundabout), "me") == workspace

    found = workspaces.find(str(shelf / "work/mets.xml"), "me")
    assert (found.id, found.mets, found.owner) == ("", shelf / "work/mets.xml", "")
    (shelf / "link.xml").symlink_to(shelf / "work/mets.xml")
    other = workspaces.find(str(shelf / "link.xml"), "them")
    assert workspaces.key(other) == workspaces.key(found)
    assert len(workspaces.key(found)) == 16


@pytest.mark.parametrize(
    "path",
    [
        *("", "mets.xml", "work/mets.xml", "\0", "/" + "x" * 5000, "/etc/passwd", "/etc/gone"),
        *("{shelf}", "{shelf}/gone.xml", "{shelf}/work", "{shelf}/../secret.xml", "{shelf}/out"),
        *("{shelf}/outer/secret.xml", "{shelf}/pipe", "{work}/IMG/a.tif", "{work}/other.xml"),
        *("{work}", "{work}/../workspace.json", "{work}/../../gone/data/mets.xml", "{data}/x.xml"),
        "http://127.0.0.1/mets.xml",
    ],
)
def test_all_other_paths_have_the_same_error_message(
    shelf: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = Builder()
    bag.payload["other.xml"] = bag.payload["mets.xml"]
    work = received(bag.build()).folder
    (shelf / "out").symlink_to(shelf / "../secret.xml")
    (shelf / "outer").symlink_to(shelf / "..")
    os.mkfifo(shelf / "pipe")
    data = settings.get().data_dir
    (data / "x.xml").write_text("x")
    # Also if the data folder is inside such a folder.
    monkeypatch.setenv("OCR_OCRD_FOLDERS", f"{shelf}:{data.parent / 'data'}")
    settings.clear()

    with pytest.raises(ocrd_errors.WorkspaceNotFound) as refusal:
        workspaces.find(path.format(shelf=shelf, work=work, data=data), "me")
    assert refusal.value.detail == ocrd_errors.WorkspaceNotFound.title


# METS files by URL


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Runs an allowed site with the work of Kant."""
    monkeypatch.setenv("OCR_CALLBACK_NETWORKS", "127.0.0.0/8")
    settings.clear()
    with serving() as running:
        running.files = {f"/kant/{name}": content for name, content in contents(KANT).items()}
        yield running


def fetched(site: Site, groups: list[str] | None = None, path: str = "kant/mets.xml") -> Workspace:
    return workspaces.fetch(f"{site.url}/{path}", "me", groups)


def put(site: Site, text: str) -> None:
    site.files["/kant/mets.xml"] = text.encode()


def test_a_workspace_is_downloaded_with_the_files_next_to_its_mets_file(site: Site) -> None:
    workspace = fetched(site)

    assert contents(workspace.folder).keys() == contents(KANT).keys()
    found = Mets.read(workspace.mets)
    assert [file.href for file in found.files()] == [
        file.href for file in Mets.read(KANT / "mets.xml").files()
    ]
    assert workspaces.listed("me") == [workspace]
    assert left() == []
    assert sorted(site.asked) == sorted(site.files)


def test_files_of_other_groups_keep_their_urls(site: Site) -> None:
    workspace = fetched(site, ["OCR-D-IMG"])

    found = Mets.read(workspace.mets)
    page = found.files("OCR-D-GT-PAGE")[0]
    assert page.href == f"{site.url}/kant/OCR-D-GT-PAGE/PAGE_0017_PAGE.xml"
    assert not page.local
    assert {Path(name).parent.name for name in site.asked} == {"kant", "OCR-D-IMG"}


def test_files_with_urls_are_named_by_group_and_id(site: Site) -> None:
    site.files["/iiif/full/0/default.jpg"] = b"image"
    text = mets(f"{site.url}/iiif/full/0/default.jpg", f"{site.url}/iiif/full/0/default.jpg")
    put(site, text.replace("image/tiff", "image/jpeg", 1).replace("image/tiff", "image/x"))

    workspace = fetched(site)

    names = contents(workspace.folder).keys() - {"mets.xml"}
    assert names == {"WEB/F0.jpg", "WEB/F1.jpg"}
    assert all(file.local for file in Mets.read(workspace.mets).files())


def test_another_name_of_the_mets_file_is_kept(site: Site) -> None:
    workspace = workspaces.fetch(f"{site.url}/kant/mets.xml", "me", None, "other.xml")
    assert workspace.mets.name == "other.xml"
    for name in ("../x", "a/b", "", ".x"):
        with pytest.raises(ocrd_errors.WorkspaceInvalid):
            workspaces.fetch(f"{site.url}/kant/mets.xml", "me", None, name)


def test_relative_paths_are_resolved_with_the_final_url_of_the_mets_file(site: Site) -> None:
    site.moved["/work"] = "/kant/mets.xml"
    assert contents(fetched(site, path="work").folder).keys() == contents(KANT).keys()


def test_five_redirects_are_followed(site: Site) -> None:
    for number in range(6):
        site.moved[f"/{number}"] = f"/{number + 1}"
    site.moved["/6"] = "/kant/mets.xml"
    assert fetched(site, ["OCR-D-IMG"], path="2")
    with pytest.raises(ocrd_errors.WorkspaceDownloadFailed, match="more than 5 times"):
        fetched(site, path="1")


def test_a_download_leaves_the_reserve_of_the_disk_free(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_RESERVE_BYTES", str(shutil.disk_usage(tmp_path).total))
    settings.clear()
    fetcher = fetching.Fetcher(60, 1 << 20)

    with closing(fetcher), pytest.raises(errors.StorageFull):
        fetcher.save(f"{site.url}/kant/mets.xml", tmp_path / "mets.xml")


@pytest.mark.parametrize("onward", ["http://[::1]:8000/", "http://127.0.0.1:6379/", "file:///x"])
def test_a_redirect_to_a_forbidden_host_is_refused(site: Site, onward: str) -> None:
    site.moved["/work"] = onward
    with pytest.raises(ocrd_errors.WorkspaceDownloadFailed):
        fetched(site, path="work")
    assert left() == []


def test_loopback_is_refused_unless_it_is_allowed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCR_CALLBACK_NETWORKS")
    settings.clear()
    for host in ("127.0.0.1", "localhost", "0x7f.1"):
        url = site.url.replace("127.0.0.1", host)
        with pytest.raises(ocrd_errors.WorkspaceDownloadFailed, match="not public"):
            workspaces.fetch(f"{url}/kant/mets.xml", "me", None)
    assert site.asked == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/", "", "mets.xml"])
def test_other_urls_of_mets_files_are_refused(url: str) -> None:
    with pytest.raises(ocrd_errors.WorkspaceDownloadFailed):
        workspaces.fetch(url, "me", None)
    assert left() == []


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (mets("file:///etc/passwd"), ocrd_errors.WorkspaceInvalid, "not an http\\(s\\) URL"),
        (mets("/etc/passwd"), ocrd_errors.WorkspaceInvalid, "absolute"),
        (mets("IMG/../../x"), ocrd_errors.WorkspaceInvalid, r"contain `\.\.`"),
        (mets("ftp://example.org/x"), ocrd_errors.WorkspaceInvalid, "not an http\\(s\\) URL"),
        (
            mets("IMG/gone.tif"),
            ocrd_errors.WorkspaceDownloadFailed,
            "gone.tif responded with status 404",
        ),
        (mets("http://127.0.0.1:6379/x"), ocrd_errors.WorkspaceDownloadFailed, "port 6379"),
        (mets("http://[::1]/x"), ocrd_errors.WorkspaceDownloadFailed, "not public"),
        (mets("IMG/a", more="<!DOCTYPE m>"), ocrd_errors.WorkspaceInvalid, "document type"),
        (mets("IMG/a", "IMG//a"), ocrd_errors.WorkspaceInvalid, "two files"),
        (mets("a/b", "a"), ocrd_errors.WorkspaceInvalid, "a file and as a folder"),
        ("<html/>", ocrd_errors.WorkspaceInvalid, "not METS"),
    ],
    ids=range(11),
)
def test_a_workspace_with_an_invalid_mets_file_is_refused(
    site: Site, text: str, error: type[errors.OcrTasksError], reason: str
) -> None:
    put(site, text)
    with pytest.raises(error, match=reason):
        fetched(site)
    assert left() == []
    assert workspaces.listed(None) == []


def test_a_page_with_a_path_outside_the_workspace_is_not_kept(site: Site) -> None:
    site.files["/kant/OCR-D-GT-PAGE/PAGE_0017_PAGE.xml"] = b'<Page imageFilename="/etc/passwd"/>'
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="outside the workspace: '/etc/passwd'"):
        fetched(site)
    assert left() == []


def test_unknown_groups_are_reported(site: Site) -> None:
    with pytest.raises(ocrd_errors.FileGroupUnknown, match="GONE"):
        fetched(site, ["GONE"])


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("OCR_OCRD_MAX_BYTES", "100000"),
        ("OCR_OCRD_MAX_METS_BYTES", "1024"),
        ("OCR_OCRD_MAX_FILES", "2"),
    ],
)
def test_limits_are_enforced_while_downloading(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, most: str
) -> None:
    monkeypatch.setenv(name, most)
    settings.clear()
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match=f"(more|larger) than {most}"):
        fetched(site)
    assert left() == []


def test_characters_of_a_path_are_escaped_in_a_url(site: Site) -> None:
    site.files["/kant/IMG/a%231%3F%20%C3%A4.tif"] = b"image"
    put(site, mets("IMG/a#1? ä.tif"))
    assert "IMG/a#1? ä.tif" in contents(fetched(site).folder)


def test_an_unresponsive_site_times_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit applies to all files; the others must have arrived by then even on a busy machine.
    monkeypatch.setenv("OCR_OCRD_FETCH_SECONDS", "3")
    settings.clear()
    site.stuck.add("/kant/OCR-D-IMG/INPUT_0020.tif")
    with pytest.raises(
        ocrd_errors.WorkspaceDownloadFailed,
        match=r"INPUT_0020\.tif: the server did not respond in time",
    ):
        fetched(site)
    assert left() == []
