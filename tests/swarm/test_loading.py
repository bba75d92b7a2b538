"""Folders of images: what is loaded, listed and deleted, and where transcripts are written."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from ocr_tasks.cli import main
from ocr_tasks.redis import connection
from ocr_tasks.swarm import collections, devices, loading, queue, redis_keys, transcripts
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm.collections import Collection, CollectionError
from ocr_tasks.swarm.model import Abilities
from tests.swarm.conftest import Load, hocr

TEXT = b"the words of a page"


def answer(device: str = "phone", body: bytes = TEXT, form: transcripts.Sent = "text") -> str:
    """Leases a page, sends its transcript, and returns its name."""
    got = queue.lease(device, Abilities(), 60)
    assert got
    transcripts.take(queue.accept(got.id), body, form)
    return got.page.name


def test_folders_are_scanned_and_known_images_are_skipped(load: Load, images: Path) -> None:
    (images / "notes.txt").write_text("no image")
    first = load("b.jpg", "a.TIF", "sub/c d.png")
    second = load("sub/deep/e.png")

    assert first == dict.fromkeys(["a.TIF", "b.jpg", "sub/c d.png"], "registered")
    assert second == {**dict.fromkeys(first, "known"), "sub/deep/e.png": "registered"}


def test_other_files_are_reported_and_do_not_stop_the_rest(load: Load, images: Path) -> None:
    (images / "bad.png").write_bytes(b"nothing")
    (images / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = load("good.png")

    assert found["good.png"] == "registered"
    assert found["bad.png"].startswith("cannot be loaded")
    assert found["cut.png"].startswith("cannot be loaded")


def test_symbolic_links_are_not_followed(load: Load, images: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("L", (9, 9)).save(secret)
    (images / "link.png").symlink_to(secret)
    (images / "folder").symlink_to(tmp_path)

    assert load("a.png") == {"a.png": "registered"}


def test_transcripts_mirror_the_folders(load: Load, tmp_path: Path) -> None:
    load("sub/page 1.png")
    answer()

    assert (tmp_path / "transcripts/sub/page 1.txt").read_bytes() == TEXT


def test_hocr_is_stored_next_to_the_text(load: Load, tmp_path: Path) -> None:
    load("a.png")
    answer(body=hocr("some words"), form="hocr")

    assert (tmp_path / "transcripts/a.txt").read_text() == "some words"
    assert "some" in (tmp_path / "transcripts/a.hocr").read_text()


def test_images_with_different_extensions_have_separate_transcripts(
    load: Load, tmp_path: Path
) -> None:
    load("a.jpg", "a.tif")
    answer(body=b"one")
    answer(body=b"two")

    assert sorted(path.name for path in (tmp_path / "transcripts").iterdir()) == [
        "a.jpg.txt",
        "a.tif.txt",
    ]


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "I;16"])
def test_formats_that_docrs_client_cannot_open_are_converted(
    load: Load, images: Path, mode: str
) -> None:
    load("odd.png", mode=mode)
    got = queue.lease("phone", Abilities(), 60)
    assert got

    with Image.open(transcripts.image_file(got.page)) as served:
        assert (served.mode in ("L", "RGB"), served.size) == (True, (100, 50))
    with Image.open(images / "odd.png") as kept:
        assert kept.mode == mode


def test_tiff_can_be_sent_as_png(load: Load) -> None:
    load("a.tif", as_png=True)

    got = queue.lease("browser", Abilities(images=frozenset({"image/png"})), 60)
    assert got
    with Image.open(transcripts.image_file(got.page)) as served:
        assert served.format == "PNG"


#: The operations that store an upright image with each EXIF orientation.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("ending", ["jpg", "tif", "png", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_are_handed_out_upright(load: Load, images: Path, ending: str, mode: str) -> None:
    upright = Image.new(mode, (96, 48), "white")
    upright.paste("black", (0, 0, 40, 16))  # in the upper left
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright if turn is None else upright.transpose(turn)
        stored.save(images / f"{orientation}.{ending}", exif=exif)
    load(endings=(ending,))

    while got := queue.lease("phone", Abilities(), 60):
        with Image.open(transcripts.image_file(got.page)) as served:
            assert served.getexif().get(0x0112, 1) == 1
            assert served.size == (got.page.width, got.page.height) == (96, 48)
            assert Image.MIME[served.format or ""] == got.page.media_type
            seen = served.convert("L")
            for corner in ((90, 5), (5, 43), (90, 43), (48, 24)):
                assert cast("int", seen.getpixel(corner)) > 200, got.page.name
            assert cast("int", seen.getpixel((5, 5))) < 50, got.page.name
    assert queue.counts()["leased"] == 8


def paged(path: Path, *shades: int, **options: Any) -> None:
    """Writes a TIFF file with a page of each shade of gray, each wider than the one before."""
    pages = [Image.new("L", (100 + 10 * n, 50), shade) for n, shade in enumerate(shades)]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)


def test_each_page_of_a_file_is_handed_out(load: Load, images: Path, tmp_path: Path) -> None:
    paged(images / "book.tif", 10, 20, 30)
    found = load("after.png", "sub/one.tif", transcripts=str(images))
    pages = [f"book.tif.pages/000{number}" for number in (1, 2, 3)]

    assert found == dict.fromkeys(["after.png", *pages, "sub/one.tif"], "registered")
    listed = {row.page.name: row.page for row in loading.pages()}
    for number, name in enumerate(pages):
        with Image.open(transcripts.image_file(listed[name])) as served:
            assert (served.format, listed[name].media_type) == ("PNG", "image/png")
            assert served.size == (listed[name].width, 50) == (100 + 10 * number, 50)
            assert served.getpixel((0, 0)) == 10 + 10 * number
    for _ in range(3):
        answer()
    for name in ("after", *pages[:2]):
        assert (images / f"{name}.txt").read_bytes() == TEXT  # next to the images
    loading.purge(everything=True)
    again = load(transcripts=str(images))
    assert [again[page] for page in pages] == ["read", "read", "registered"]


def test_loading_again_before_the_last_page_does_not_keep_the_file(
    load: Load, images: Path
) -> None:
    paged(images / "book.tif", 10, 20, 30)
    load(delete_images=True)
    answer()
    assert load(delete_images=True)["book.tif.pages/0001"] == "read"
    for _ in range(2):
        answer()

    assert not (images / "book.tif").exists()


def test_a_file_with_several_pages_is_deleted_with_the_last_one(load: Load, images: Path) -> None:
    paged(images / "book.tif", 10, 20, 30)
    load(delete_images=True)
    for _ in range(2):
        answer()
    assert (images / "book.tif").exists()
    answer()

    assert not (images / "book.tif").exists()


def test_a_file_of_which_a_page_is_damaged_is_refused(load: Load, images: Path) -> None:
    paged(images / "book.tif", 10, 20, 30, compression="tiff_lzw")
    whole = bytearray((images / "book.tif").read_bytes())
    with Image.open(images / "book.tif") as book:
        book.seek(1)
        (offset,) = cast("tuple[int]", getattr(book, "tag_v2")[273])  # noqa: B009
    whole[offset : offset + 20] = bytes(range(20))
    (images / "book.tif").write_bytes(whole)

    assert load("a.png")["book.tif"].startswith("cannot be loaded")
    assert queue.counts()["waiting"] == 1


def test_a_thumbnail_in_a_file_is_no_page(load: Load, images: Path) -> None:
    paged(images / "scan.tif", 10, 200, tiffinfo={254: 0})
    kind = struct.pack("<HHII", 254, 4, 1, 0)  # the NewSubfileType of a page
    page, small, rest = (images / "scan.tif").read_bytes().split(kind)
    whole = page + kind + small + struct.pack("<HHII", 254, 4, 1, 1) + rest
    (images / "scan.tif").write_bytes(whole)

    assert load() == {"scan.tif": "registered"}
    got = queue.lease("phone", Abilities(), 60)
    assert got
    with Image.open(transcripts.image_file(got.page)) as served:
        assert (getattr(served, "n_frames", 1), served.getpixel((0, 0))) == (1, 10)


@pytest.mark.parametrize("name", ["a.png", "book.pages/0001.png"])
def test_an_image_is_deleted_after_its_transcript_is_stored_with_that_option(
    load: Load, images: Path, tmp_path: Path, name: str
) -> None:
    load(name, delete_images=True)
    answer()

    assert (tmp_path / "transcripts" / name).with_suffix(".txt").exists()
    assert not (images / name).exists()


def test_images_are_kept_without_that_option(load: Load, images: Path) -> None:
    load("a.png")
    answer()

    assert (images / "a.png").exists()


def test_purge_forgets_finished_pages_and_keeps_files(
    load: Load, images: Path, tmp_path: Path
) -> None:
    load("a.png", "b.png")
    name = answer()

    assert loading.purge() == 1
    assert [row.page.name for row in loading.pages()] == ["b.png"]
    assert loading.purge(everything=True) == 1
    assert queue.counts()["waiting"] == 0
    assert (images / name).exists()
    assert (tmp_path / "transcripts/a.txt").exists()


def test_images_with_transcripts_are_only_processed_again_on_request(load: Load) -> None:
    load("a.png", "b.png")
    answer()
    loading.purge(everything=True)

    assert load() == {"a.png": "read", "b.png": "registered"}
    assert loading.purge(everything=True) == 1
    chosen = collections.get("scans")
    found = [row.result for row in loading.load(chosen, ["png"], again=True)]
    assert found == ["registered", "registered"]


def test_converted_copies_are_deleted_with_their_pages(load: Load, images: Path) -> None:
    load("odd.png", mode="RGBA")
    copy = collections.get("scans").converted("odd.png")
    assert copy.exists()
    loading.purge(everything=True)

    assert not copy.exists()
    assert (images / "odd.png").exists()


def test_failed_pages_can_be_queued_again(load: Load) -> None:
    load("a.png")
    for device in ("one", "two", "three"):
        got = queue.lease(device, Abilities(), 60)
        assert got
        queue.fail(got.id, "too dark")
    assert [row.reasons for row in loading.pages()] == [("too dark",) * 3]

    assert loading.wait_again() == 1
    assert answer("one") == "a.png"


def test_a_name_belongs_to_one_folder(load: Load, tmp_path: Path) -> None:
    load("a.png")
    other = Collection("scans", str(tmp_path), str(tmp_path / "t"), ("eng",))

    with pytest.raises(CollectionError, match="--name"):
        collections.save(other)
    for bad in ("../x", "", "a/b", "A"):
        with pytest.raises(CollectionError):
            collections.save(Collection(bad, "/", "/", ("eng",)))


def test_no_name_of_a_page_leads_out_of_its_folder(load: Load, images: Path) -> None:
    load("a.png")
    collection = collections.get("scans")
    (images / "out").symlink_to("/etc")

    for bad in ("../secret", "/etc/passwd", "sub/../../x"):
        for place in (collection.image, collection.transcript, collection.readings):
            with pytest.raises(swarm_errors.PageWithdrawn):
                place(bad)
    with pytest.raises(swarm_errors.PageWithdrawn):
        collection.image("out/passwd")


# Cross-checks


def seen(device: str) -> None:
    """Requests a page for a device, which gets none."""
    queue.lease(device, Abilities(languages=frozenset()), 60)


def test_without_a_second_client_nothing_is_checked_and_that_is_reported(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    load("a.png", "b.png")
    seen("token/a/two")
    answer("token/a/one")
    answer("token/a/two")

    counts = queue.counts()
    assert (counts["done"], counts["checked"], counts["unchecked"]) == (2, 0, 2)
    assert main(["swarm", "stats"]) == 0
    assert "2 transcripts could not be cross-checked" in capsys.readouterr().out


def test_a_slow_client_that_is_processing_a_page_checks_others(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    load("a.png", "b.png")
    seen("token/b/slow")
    client = connection.client()
    client.zincrby(f"{redis_keys.SWARM}clients", -90, "token/b")
    answer("token/a/one")

    assert queue.counts()["unchecked"] == 0
    client.zincrby(f"{redis_keys.SWARM}clients", -3600, "token/b")
    answer("token/a/one")
    assert queue.counts()["unchecked"] == 1


def test_the_devices_of_one_client_do_not_confirm_each_other(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    load("a.png", "b.png", "c.png")
    seen("token/honest/phone")
    for name in ("a", "b", "c"):
        answer(f"token/liar/{name}", b"buy my pills today")
    assert queue.lease("token/liar/d", Abilities(), 60) is None
    for _ in range(3):
        answer("token/honest/phone")

    assert queue.lease("token/liar/third", Abilities(), 60) is None
    devices.check("token/honest/phone")
    assert {path.read_bytes() for path in (tmp_path / "transcripts").iterdir()} == {TEXT}
    for _ in range(3):
        answer("token/third/phone")
    with pytest.raises(swarm_errors.DeviceDistrusted):
        devices.check("token/liar/new name")
    assert queue.counts()["checked"] == 3


def test_two_devices_that_agree_are_trusted(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    load("a.png")
    seen("two")
    answer("one", b"the words of a page")
    assert (tmp_path / "transcripts/a.txt").read_bytes() == b"the words of a page"
    assert queue.counts()["done"] == 0
    answer("two", b"the words of a page.")

    assert (tmp_path / "transcripts/a.txt").read_bytes() == b"the words of a page."
    found = {row.name: (row.checked, row.disagreed) for row in devices.latest()}
    assert found == {"one": (1, 0), "two": (1, 0)}


def test_if_two_devices_differ_a_third_one_decides(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    load("a.png")
    seen("liar")
    answer("one", b"the words of a page")
    answer("liar", b"buy my pills today")
    answer("three", b"the words of a page")

    assert (tmp_path / "transcripts/a.txt").read_bytes() == b"the words of a page"
    found = {row.name: (row.checked, row.disagreed) for row in devices.latest()}
    assert found == {"one": (1, 0), "liar": (1, 1), "three": (1, 0)}


# Requeueing


def transcribers() -> dict[str, tuple[str, str]]:
    """Returns the state of each page, and the device whose transcript is stored."""
    return {row.page.name: (row.state, row.transcribed_by) for row in loading.pages()}


def test_the_device_of_the_stored_transcript_is_listed(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("a.png", "b.png", "c.png")
    answer("token/a/phone")
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    seen("token/b/phone")
    answer("token/a/tablet", b"quite another text")
    assert transcribers() == {
        "a.png": ("done", "token/a/phone"),
        "b.png": ("waiting", "token/a/tablet"),
        "c.png": ("waiting", ""),
    }
    answer("token/b/phone")
    answer("token/c/phone")

    assert transcribers()["b.png"] == ("done", "token/c/phone")
    assert main(["swarm", "list", "--device", "token/c"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("\t")[-1] == "TRANSCRIBED BY"
    assert row.split("\t")[1:] == ["scans/b.png", "done", "", "token/c/phone"]


def test_the_pages_of_a_device_are_queued_again(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("a.png", "b.png", "c.png", "d.png")
    answer("token/liar/one", hocr("buy my pills"), "hocr")
    answer("token/good/one")
    monkeypatch.setattr(transcripts, "wants_check", lambda: True)
    answer("token/liar/two", b"buy my pills")  # is to be checked
    late = queue.lease("token/liar/two", Abilities(), 60)
    assert late
    assert main(["swarm", "requeue", "--device", "token/liar/one"]) == 0
    assert "Queued 1 pages" in capsys.readouterr().out
    assert main(["swarm", "requeue", "--device", "token/li"]) == 0
    assert "Queued 0 pages" in capsys.readouterr().out
    assert main(["swarm", "requeue", "--device", "token/liar"]) == 0
    assert "Queued 2 pages" in capsys.readouterr().out

    assert set(transcribers().values()) == {("waiting", ""), ("done", "token/good/one")}
    with pytest.raises(swarm_errors.LeaseUnknown):
        queue.accept(late.id)
    monkeypatch.setattr(transcripts, "wants_check", lambda: False)
    assert [answer("token/good/one") for _ in range(3)] == ["a.png", "c.png", "d.png"]
    assert {path.read_bytes() for path in (tmp_path / "transcripts").iterdir()} == {TEXT}


def test_pages_whose_images_were_deleted_are_not_queued_again(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    load("a.png", delete_images=True)
    answer("token/liar/one")

    assert main(["swarm", "requeue", "--device", "token/liar"]) == 1
    assert "scans/a.png: its image was deleted" in capsys.readouterr().err
    assert transcribers() == {"a.png": ("done", "token/liar/one")}


# Command line


def test_the_manager_loads_lists_and_purges(
    load: Load, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (100, 50)).save(images / "a.png")
    (images / "bad.png").write_bytes(b"x")

    assert main(["swarm", "load", str(images)]) == 1
    assert "Registered" in capsys.readouterr().out
    (images / "bad.png").unlink()
    assert main(["swarm", "load", str(images)]) == 0
    assert "Skipped" in capsys.readouterr().out
    assert main(["swarm", "list"]) == 0
    assert "old-scans/a.png\twaiting" in capsys.readouterr().out
    answer()
    assert main(["swarm", "stats"]) == 0
    assert "phone\t1\t0" in capsys.readouterr().out
    assert main(["swarm", "purge"]) == 0
    assert "Removed 1 pages" in capsys.readouterr().out
    assert main(["swarm", "again"]) == 0


def test_options_that_are_not_given_again_stay(
    images: Path, tmp_path: Path, service: object
) -> None:
    Image.new("L", (100, 50)).save(images / "a.png")
    chosen = ["--transcripts", str(tmp_path / "texts"), "--languages", "deu+eng", "--delete-images"]
    assert main(["swarm", "load", str(images), *chosen]) == 0
    before = collections.get("old-scans")
    assert (before.languages, before.delete_images) == (("deu", "eng"), True)
    assert before.transcripts == str(tmp_path / "texts")

    assert main(["swarm", "load", str(images)]) == 0
    assert collections.get("old-scans") == before

    assert main(["swarm", "load", str(images), "--no-delete-images", "--languages", "eng"]) == 0
    changed = collections.get("old-scans")
    assert (changed.languages, changed.delete_images) == (("eng",), False)
    assert changed.transcripts == before.transcripts


def test_the_manager_ends_quietly_if_its_output_is_closed(load: Load) -> None:
    load(*(f"{number:04}-{'x' * 100}.png" for number in range(1000)))
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", "list"]
    with subprocess.Popen(
        command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listing:
        assert listing.stdout
        assert listing.stderr
        listing.stdout.readline()
        listing.stdout.close()
        assert listing.stderr.read() == b""


def test_the_manager_reports_errors(tmp_path: Path, load: Load) -> None:
    assert main(["swarm", "load", str(tmp_path / "nowhere")]) == 2
    assert main(["swarm", "load", str(tmp_path), "--name", "../x"]) == 2
