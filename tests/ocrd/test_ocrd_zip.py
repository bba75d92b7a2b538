"""Unpacking and packing OCRD-ZIP files. Each refusal is checked for its reason."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import stat
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_tasks import errors
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.zip import archives, ocrd_zip
from ocr_tasks.ocrd.zip.ocrd_zip import Limits
from tests.bags import KANT, TEXT_PROFILE, Builder, contents, kant, mets

LIMITS = Limits(bytes=20 << 20, files=100, mets_bytes=1 << 20)
ROOT = Path(__file__).parent.parent.parent


def unpacked(content: bytes, folder: Path, limits: Limits = LIMITS) -> ocrd_zip.CheckedWorkspace:
    archive = folder / "upload-00001"
    archive.write_bytes(content)
    return ocrd_zip.unpack(archive, folder, limits)


def refused(content: bytes, folder: Path, limits: Limits = LIMITS) -> str:
    """Returns the reason for which a bag is refused; checks that nothing was written elsewhere."""
    with pytest.raises(ocrd_errors.WorkspaceInvalid) as refusal:
        unpacked(content, folder, limits)
    assert {path.name for path in folder.iterdir()} <= {"upload-00001", "data"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return refusal.value.detail


def test_a_bag_is_unpacked_into_its_original_folder(tmp_path: Path) -> None:
    found = unpacked(kant().build(), tmp_path)

    assert (found.mets, found.identifier, found.pages) == ("data/mets.xml", "a:work", 2)
    assert contents(tmp_path / "data") == contents(KANT)


def _named_otherwise(bag: Builder) -> None:
    bag.payload["other.xml"] = bag.payload.pop("mets.xml")
    assert bag.info
    bag.info["Ocrd-Mets"] = "other.xml"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda bag: bag.info.update(Nothing="new"), id="other fields"),
        pytest.param(lambda bag: bag.info.pop("BagIt-Profile-Identifier"), id="no profile"),
        pytest.param(
            lambda bag: bag.info.update({"BagIt-Profile-Identifier": TEXT_PROFILE}),
            id="the profile of the text",
        ),
        pytest.param(lambda bag: setattr(bag, "tag_manifest", False), id="no tagmanifest"),
        pytest.param(lambda bag: bag.payload.update({"notes.txt": b"x"}), id="files beyond METS"),
        pytest.param(lambda bag: bag.info.update({"Payload-Oxum": "480.2"}), id="Oxum"),
        pytest.param(_named_otherwise, id="another name of METS"),
        pytest.param(lambda bag: setattr(bag, "bagit", bag.bagit + "\r\n"), id="line ends"),
        pytest.param(lambda bag: bag.more_tags.update({"metadata/a.xml": "<a/>"}), id="tag file"),
        pytest.param(lambda bag: bag.extra.append(("data/IMG/", b"")), id="entries of folders"),
        pytest.param(lambda bag: setattr(bag, "compression", zipfile.ZIP_STORED), id="stored"),
        pytest.param(
            lambda bag: bag.with_mets(mets("IMG/a.tif", "http://127.0.0.1:9/b.tif")),
            id="an address, which is not asked",
        ),
    ],
)
def test_variants_of_bags_are_accepted(tmp_path: Path, change: Callable[[Builder], object]) -> None:
    bag = Builder()
    change(bag)
    if bag.info and "Payload-Oxum" in bag.info:
        size = sum(map(len, bag.payload.values()))
        bag.info["Payload-Oxum"] = f"{size}.{len(bag.payload)}"

    assert unpacked(bag.build(), tmp_path).pages == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("data/../../evil", "contain `..`"),
        ("../evil", "contain `..`"),
        ("/etc/evil", "absolute"),
        ("data\\..\\evil", "backslashes"),
        ("data/new\nline", "control characters"),
        ("data/" + "x" * 256, "at most 32 names"),
        ("data/" + "x/" * 40 + "y", "at most 32 names"),
        ("data/img/A.TIF", "twice"),
        ("data/./IMG//a.tif", "twice"),
        ("data/IMG/a.tif/more", "a file and a folder"),
        ("evil.sh", "at the top level"),
        ("metadata/deep/er.xml", "at the top level"),
        ("fetch.txt", "at the top level"),
        ("data/unlisted.txt", "not in manifest-sha512.txt"),
    ],
)
def test_a_member_with_an_unsafe_name_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in refused(Builder(extra=[(name, b"x")]).build(), tmp_path)


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        content = Builder(extra=[("data/IMG/a.tif", b"other")]).build()
    assert "twice" in refused(content, tmp_path)


def test_a_name_with_a_nul_character_is_refused(tmp_path: Path) -> None:
    content = Builder(extra=[("data/a_b", b"x")]).build().replace(b"data/a_b", b"data/a\0b")
    assert "control characters" in refused(content, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR], ids=oct)
def test_a_link_or_a_device_in_a_bag_is_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("data/IMG/link")
    member.external_attr = (kind | 0o777) << 16
    assert "links and devices" in refused(
        Builder(extra=[(member, b"/etc/passwd")]).build(), tmp_path
    )


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(Builder().build())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1
    assert "encrypted" in refused(bytes(content), tmp_path)


def test_another_compression_method_is_refused(tmp_path: Path) -> None:
    content = Builder(compression=zipfile.ZIP_BZIP2).build()
    assert "deflate or none" in refused(content, tmp_path)


MUCH = Limits(bytes=1 << 30, files=100, mets_bytes=1 << 20)


@pytest.mark.parametrize(
    "other", [b"", random.Random(1).randbytes(1 << 20)], ids=["alone", "with other data"]
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, other: bytes) -> None:
    bag = Builder()
    bag.payload |= {"IMG/other.tif": other, "IMG/z-1.tif": bytes(40 << 20)}
    bag.payload["IMG/z-2.tif"] = bag.payload["IMG/z-1.tif"]

    assert "200 times" in refused(bag.build(), tmp_path, MUCH)
    assert sum(path.stat().st_size for path in tmp_path.glob("data/IMG/z-*")) < 80 << 20


def test_an_uncompressed_image_of_a_blank_page_is_no_bomb(tmp_path: Path) -> None:
    bag = Builder()
    bag.payload["IMG/blank.tif"] = bytes([255]) * (26 << 20)

    assert unpacked(bag.build(), tmp_path, MUCH).pages == 1


@pytest.mark.parametrize(("pages", "accepted"), [(4, True), (2, False)])
def test_blank_pages_may_be_as_large_as_the_other_pages(
    tmp_path: Path, pages: int, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_EXCESS", 1 << 20)
    bag = Builder()
    page = random.Random(1).randbytes(1 << 20)
    bag.payload |= {f"IMG/{number}.tif": page for number in range(pages)}
    bag.payload |= {f"IMG/blank-{number}.tif": bytes(1 << 20) for number in range(4)}

    if accepted:
        unpacked(bag.build(), tmp_path, MUCH)
    else:
        assert "200 times" in refused(bag.build(), tmp_path, MUCH)


def test_entries_that_share_their_data_are_refused(tmp_path: Path) -> None:
    content = bytearray(Builder().build())
    directory = content.index(b"PK\1\2")
    content[directory + 20 : directory + 24] = len(content).to_bytes(4, "little")

    assert "entries overlap" in refused(bytes(content), tmp_path)


def test_a_bag_is_not_unpacked_into_the_reserve_of_the_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).total
    with pytest.raises(errors.StorageFull):
        unpacked(Builder().build(), tmp_path, replace(LIMITS, reserve=free))


@pytest.mark.parametrize(("said", "outcome"), [(1 << 10, "damaged"), (1 << 30, "")])
def test_sizes_in_headers_are_not_trusted(tmp_path: Path, said: int, outcome: str) -> None:
    """Bytes are counted, regardless of the size that a bag declares."""
    bag = Builder()
    bag.payload["IMG/zero.tif"] = bytes(1 << 20)
    true = (1 << 20).to_bytes(4, "little")
    assert bag.build().count(true) == 2
    content = bag.build().replace(true, said.to_bytes(4, "little"))

    if outcome:
        assert outcome in refused(content, tmp_path)
    else:
        unpacked(content, tmp_path)
        assert contents(tmp_path / "data")["IMG/zero.tif"] == bytes(1 << 20)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (
            Limits(bytes=100, files=100, mets_bytes=1 << 20),
            "payload up to data/mets.xml is larger than 100",
        ),
        (Limits(bytes=1 << 20, files=5, mets_bytes=1 << 20), "more than 5 files"),
        (Limits(bytes=1 << 20, files=100, mets_bytes=100), "mets.xml is larger than 100 bytes"),
    ],
    ids=["bytes", "files", "METS"],
)
def test_limits_are_enforced(tmp_path: Path, limits: Limits, reason: str) -> None:
    assert reason in refused(Builder().build(), tmp_path, limits)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda bag: setattr(bag, "forge", lambda text: "0" * 128 + text[128:]),
            "does not match its check",
        ),
        (lambda bag: setattr(bag, "forge", lambda text: text.replace("IMG", "O")), "not in manif"),
        (lambda bag: setattr(bag, "forge", lambda text: text[5:]), "is not a checksum"),
        (lambda bag: setattr(bag, "forge", lambda text: f"{text}{'0' * 128}{text[128:]}"), "two"),
        (lambda bag: bag.info.update({"Payload-Oxum": "1.1"}), "Payload-Oxum"),
        (lambda bag: setattr(bag, "bagit", None), "no bagit.txt"),
        (lambda bag: setattr(bag, "info", None), "no bag-info.txt"),
        (lambda bag: setattr(bag, "manifest", False), "no manifest-sha512.txt"),
        (lambda bag: setattr(bag, "bagit", bag.bagit.replace("1.0", "0.97")), "bagit-version: 1.0"),
        (lambda bag: bag.info.pop("Ocrd-Identifier"), "Ocrd-Identifier"),
        (lambda bag: bag.info.update({"BagIt-Profile-Identifier": "http://x/"}), "profile"),
        (lambda bag: bag.info.update({"Ocrd-Mets": "../mets.xml"}), "The METS file"),
        (lambda bag: bag.more_tags.update({"unknown.txt": "x"}), "at the top level"),
        (lambda bag: bag.more_tags.update({"fetch.txt": "http://x/ - data/x"}), "at the top level"),
        (lambda bag: bag.payload.pop("mets.xml"), "The METS file"),
        (lambda bag: bag.payload.pop("IMG/a.tif"), "which does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bag",
)
def test_an_invalid_bag_is_refused(
    tmp_path: Path, change: Callable[[Builder], object], reason: str
) -> None:
    bag = Builder()
    change(bag)
    assert reason in refused(bag.build(), tmp_path)


def test_a_file_that_is_missing_from_the_bag_is_refused(tmp_path: Path) -> None:
    bag = Builder(forge=lambda text: f"{text}{'0' * 128}  data/gone\n")
    assert "'data/gone', which does not exist" in refused(bag.build(), tmp_path)


def test_a_tag_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    content = Builder(compression=zipfile.ZIP_STORED).build()
    with zipfile.ZipFile(io.BytesIO(content)) as bag:
        parts = {name: bag.read(name) for name in bag.namelist()}
    parts["bag-info.txt"] += b"More: words\n"
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as target:
        for name, part in parts.items():
            target.writestr(name, part)
    said = refused(forged.getvalue(), tmp_path)
    assert said == "bag-info.txt does not match its checksum in tagmanifest-sha512.txt"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no XML", "not well-formed"),
        ("<mets/>", "not METS"),
        (mets("IMG/gone.tif"), "which does not exist"),
        (mets("IMG"), "which does not exist"),
        (mets("../IMG/a.tif"), "contain `..`"),
        (mets("/etc/passwd"), "absolute"),
        (mets("file:///etc/passwd"), "not an http(s) URL"),
        (mets("file:IMG/a.tif"), "not an http(s) URL"),
        (mets("ftp://example.org/a.tif"), "not an http(s) URL"),
        (mets("IMG/a.tif", more='<!DOCTYPE m SYSTEM "file:///etc/passwd">'), "document type"),
        (mets("IMG/a.tif", more='<!DOCTYPE m [<!ENTITY x "y">]>'), "document type"),
        (mets("IMG/a.tif").replace("IMG/a.tif", "&x;"), "not well-formed"),
        (mets("IMG/a.tif").replace('USE="IMG"', 'USE="../IMG"'), "USE '../IMG'"),
        (mets("IMG/a.tif").replace('ID="P1"', 'ID="a,b"'), "ID 'a,b'"),
        (mets("IMG/a.tif", pages='<mets:div TYPE="page" ID="P1"/>'), "twice"),
        (mets("IMG/a.tif", "IMG/a.tif").replace('"F1"', '"F0"'), "twice"),
    ],
    ids=lambda text: text[-40:],
)
def test_a_bag_with_an_invalid_mets_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(Builder().with_mets(text).build(), tmp_path)


PAGE = '<PcGts><Page imageFilename="{}"/></PcGts>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><p>&x;</p>', "document type"),
        (b"<!--" + b" " * 100_000 + b"--><!DOCTYPE p><p/>", "document type"),
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE p><p/>'.encode("utf-16"), "document"),
        ("<!DOCTYPE p><p/>".encode("utf-16-le"), "not XML in UTF-8"),
        ("<!DOCTYPE p><p/>".encode("utf-32"), "not XML in UTF-8"),
        ("<?xml version='1.0' encoding='cp037'?><!DOCTYPE p><p/>".encode("cp037"), "not XML"),
        (b'<?xml version="1.0" encoding="UTF-7"?>+ADw-!DOCTYPE p><p/>', "unsupported encoding"),
        (PAGE.format("/etc/passwd").encode(), "/etc/passwd"),
        (PAGE.format("&#47;etc/passwd").encode(), "/etc/passwd"),
        (PAGE.format("file:///etc/passwd").encode(), "file:///etc/passwd"),
        (PAGE.format("IMG/../../../other/a.tif").encode(), "other/a.tif"),
        (b"<AlternativeImage filename =\n '../a.tif'/>", "../a.tif"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("name", ["GT/page.xml", "GT/page.XML", "GT/page"])
def test_a_page_with_a_path_outside_the_workspace_is_refused(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    bag = Builder().with_mets(
        mets("IMG/a.tif", name).replace(
            'ID="F1" MIMETYPE="image/tiff"', f'ID="F1" MIMETYPE="{ocrd_zip.PAGE_TYPE}"'
        )
    )
    bag.payload[name] = content

    said = refused(bag.build(), tmp_path)
    assert name in said
    assert reason in said


@pytest.mark.parametrize("image", ["IMG/a.tif", "http://example.org/a.tif", "a..b.tif"])
def test_a_page_may_name_an_image_next_to_it_or_a_url(tmp_path: Path, image: str) -> None:
    bag = Builder()
    bag.payload["GT/page.xml"] = PAGE.format(image).encode("utf-16")
    assert unpacked(bag.build(), tmp_path).pages == 1


def test_html_may_have_a_doctype(tmp_path: Path) -> None:
    bag = Builder().with_mets(mets("IMG/a.tif", "HOCR/page.html"))
    bag.payload["HOCR/page.html"] = b"<!DOCTYPE html><html/>"
    assert unpacked(bag.build(), tmp_path).pages == 1


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_an_incomplete_bag_is_refused(tmp_path: Path, part: float) -> None:
    whole = kant().build()
    assert "not a ZIP file" in refused(whole[: int(part * len(whole))], tmp_path)


def test_a_bag_with_a_changed_bit_is_refused(tmp_path: Path) -> None:
    content = bytearray(kant().build())
    content[len(content) // 2] ^= 1
    assert "data/OCR-D-" in refused(bytes(content), tmp_path)


SMALL = Builder().build()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=8))
def test_a_damaged_bag_is_accepted_or_refused(damage: list[tuple[int, int]]) -> None:
    """Each error is one of this project's, and nothing is written elsewhere."""
    content = bytearray(SMALL)
    for place, value in damage:
        content[place] = value
    with TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        with contextlib.suppress(ocrd_errors.WorkspaceInvalid):
            assert unpacked(bytes(content), folder).mets == "data/mets.xml"
        assert [path.name for path in Path(name).iterdir()] == ["in"]
        assert {path.name for path in folder.iterdir()} <= {"upload-00001", "data"}


# Packing


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "kant"
    shutil.copytree(KANT, folder)
    return folder


def test_a_packed_workspace_can_be_unpacked(tmp_path: Path, workspace: Path) -> None:
    (workspace / "secret.txt").write_text("METS does not name it")
    content = b"".join(ocrd_zip.pack(workspace, "mets.xml", "a:work"))
    (tmp_path / "again").mkdir()

    found = unpacked(content, tmp_path / "again")

    assert (found.identifier, found.pages) == ("a:work", 2)
    assert contents(tmp_path / "again/data") == contents(KANT)


def test_a_mets_file_with_another_name_keeps_it(tmp_path: Path, workspace: Path) -> None:
    (workspace / "mets.xml").rename(workspace / "other.xml")
    content = b"".join(ocrd_zip.pack(workspace, "other.xml", "a:work"))
    (tmp_path / "again").mkdir()
    assert unpacked(content, tmp_path / "again").mets == "data/other.xml"


def test_images_are_not_compressed_again(workspace: Path) -> None:
    packed = io.BytesIO(b"".join(ocrd_zip.pack(workspace, "mets.xml", "a:work")))
    with zipfile.ZipFile(packed) as bag:
        kinds = {Path(row.filename).suffix: row.compress_type for row in bag.infolist()}
    assert kinds == {".tif": zipfile.ZIP_STORED, ".xml": 8, ".txt": kinds[".txt"]}


def test_a_large_file_is_packed_in_chunks(workspace: Path) -> None:
    (workspace / "OCR-D-IMG/INPUT_0017.tif").write_bytes(os.urandom(1 << 20) * 10)
    assert max(map(len, ocrd_zip.pack(workspace, "mets.xml", "a:work"))) < 3 << 20


@pytest.mark.parametrize("way", ["file", "folder", "gone"])
def test_a_link_is_never_packed(tmp_path: Path, workspace: Path, way: str) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "INPUT_0017.tif").write_text("secret")
    place = workspace / "OCR-D-IMG/INPUT_0017.tif"
    place.unlink()
    if way == "file":
        place.symlink_to(secret / "INPUT_0017.tif")
    elif way == "folder":
        shutil.rmtree(place.parent)
        place.parent.symlink_to(secret)

    with pytest.raises(
        ocrd_errors.WorkspaceInvalid, match=r"INPUT_0017\.tif', which does not exist"
    ):
        ocrd_zip.pack(workspace, "mets.xml", "a:work")


def ocrd() -> Path:
    """Returns OCR-D's own program, which has its own environment."""
    folders = [*os.environ.get("OCR_OCRD_PATH", "").split(":"), str(ROOT / ".venv-ocrd/bin")]
    found = shutil.which("ocrd", path=":".join([*filter(None, folders), os.environ["PATH"]]))
    assert found, "ocrd is not installed; scripts/setup --dev installs it"
    return Path(found)


def test_a_packed_workspace_passes_the_validator_of_ocrd(tmp_path: Path, workspace: Path) -> None:
    Mets.read(workspace / "mets.xml").write(workspace / "mets.xml")
    (tmp_path / "kant.ocrd.zip").write_bytes(
        b"".join(ocrd_zip.pack(workspace, "mets.xml", "ocrd:kant"))
    )
    check = [ocrd(), "zip", "validate", "kant.ocrd.zip"]
    said = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
