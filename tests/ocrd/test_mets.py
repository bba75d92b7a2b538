"""METS files: parsing, changes and refusals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ocr_tasks.formats import untrusted_xml
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import File, Mets, is_group_name, is_page_id
from tests.bags import KANT, mets

LIMIT = 1 << 26
PAGE = "application/vnd.prima.page+xml"


@pytest.fixture
def kant() -> Mets:
    return Mets.read(KANT / "mets.xml", LIMIT)


def again(document: Mets, folder: Path) -> Mets:
    """Returns the METS file after it was written and parsed."""
    document.write(folder / "again.xml")
    return Mets.read(folder / "again.xml", LIMIT)


def test_pages_groups_and_files_are_in_document_order(kant: Mets) -> None:
    assert kant.pages == ["PHYS_0017", "PHYS_0020"]
    assert kant.groups == ["OCR-D-IMG", "OCR-D-GT-PAGE"]
    assert [file.id for file in kant.files()] == [
        *("INPUT_0017", "INPUT_0020", "PAGE_0017_PAGE", "PAGE_0020_PAGE")
    ]
    assert kant.files("OCR-D-GT-PAGE", "PHYS_0020") == [
        File(
            *("PAGE_0020_PAGE", "OCR-D-GT-PAGE", "PHYS_0020", PAGE),
            href="OCR-D-GT-PAGE/PAGE_0020_PAGE.xml",
            local=True,
        )
    ]
    assert kant.files("GONE") == kant.files(page="GONE") == []
    assert kant.pages_of("OCR-D-IMG") == {"PHYS_0017", "PHYS_0020"}
    assert kant.pages_of("GONE") == set()


def test_a_path_precedes_a_url() -> None:
    both = mets("http://example.org/a.tif", "http://example.org/b.tif").replace(
        'xlink:href="http://example.org/a.tif"/>',
        'xlink:href="http://example.org/a.tif"/>'
        '<mets:FLocat LOCTYPE="OTHER" OTHERLOCTYPE="FILE" xlink:href="IMG/a.tif"/>',
    )
    first, second = Mets.parse(both.encode()).files()
    assert (first.href, first.local) == ("IMG/a.tif", True)
    assert (second.href, second.local) == ("http://example.org/b.tif", False)


def test_a_file_may_belong_to_several_pages() -> None:
    text = mets(
        "PDF/a.pdf", pages='<mets:div TYPE="page" ID="P2"><mets:fptr FILEID="F0"/></mets:div>'
    )
    document = Mets.parse(text.encode())
    assert document.pages_of("PDF") == {"P1", "P2"}
    assert [file.page for file in document.files()] == ["P1"]
    assert [file.page for file in document.files(page="P2")] == ["P2"]


def test_a_new_file_belongs_to_its_page(kant: Mets, tmp_path: Path) -> None:
    kant.add_file("OCR-D-OCR", "OCR_0017", "PHYS_0017", PAGE, "OCR-D-OCR/OCR_0017.xml")
    found = again(kant, tmp_path)
    assert found.groups == ["OCR-D-IMG", "OCR-D-GT-PAGE", "OCR-D-OCR"]
    assert found.pages_of("OCR-D-OCR") == {"PHYS_0017"}
    (file,) = found.files("OCR-D-OCR")
    assert (file.id, file.href, file.local) == ("OCR_0017", "OCR-D-OCR/OCR_0017.xml", True)


def test_a_file_with_the_same_id_is_replaced(kant: Mets, tmp_path: Path) -> None:
    kant.add_file("OCR-D-IMG", "INPUT_0017", "PHYS_0020", "image/png", "https://example.org/a.png")
    found = again(kant, tmp_path)
    assert found.pages_of("OCR-D-IMG") == {"PHYS_0020"}
    assert [file.id for file in found.files("OCR-D-IMG")] == ["INPUT_0017", "INPUT_0020"]
    assert found.files("OCR-D-IMG")[0].href == "https://example.org/a.png"

    kant.add_file("OTHER", "INPUT_0017", "", "image/png", "OTHER/a.png")
    found = again(kant, tmp_path)
    assert [(file.id, file.page) for file in found.files("OTHER")] == [("INPUT_0017", "")]
    assert [file.id for file in found.files("OCR-D-IMG")] == ["INPUT_0020"]


def test_missing_elements_around_a_file_are_created(tmp_path: Path) -> None:
    document = Mets.parse(b'<m:mets xmlns:m="http://www.loc.gov/METS/"><m:structLink/></m:mets>')
    document.add_file("IMG", "A", "P1", "image/tiff", "IMG/a.tif")
    document.add_agent("ocr-tasks", "recognition/text-recognition", {"page-id": "P1"})
    document.write(tmp_path / "mets.xml")

    text = (tmp_path / "mets.xml").read_text()
    order = [text.index(name) for name in ("metsHdr", "fileSec", "structMap", "structLink")]
    assert order == sorted(order)
    assert Mets.parse(text.encode()).files(page="P1")[0].href == "IMG/a.tif"


def test_an_agent_is_recorded_like_ocrd_records_it(kant: Mets, tmp_path: Path) -> None:
    notes = {"input-file-grp": "OCR-D-IMG", "parameter": '{"a": "<b>"}'}
    kant.add_agent("ocrd-x v1", "recognition/text-recognition", notes)
    kant.write(tmp_path / "mets.xml")
    text = (tmp_path / "mets.xml").read_text()
    kind = 'TYPE="OTHER" OTHERTYPE="SOFTWARE" ROLE="OTHER" OTHERROLE="recognition/text-recognition"'
    assert f"<mets:agent {kind}>" in text.replace(' xmlns:ocrd="https://ocr-d.de"', "")
    assert 'ocrd:option="input-file-grp"' in text
    assert '{"a": "&lt;b&gt;"}' in text


def worked_on(group: str, folder: Path) -> Mets:
    """Returns a copy after a processor has added files to it."""
    copy = Mets.read(KANT / "mets.xml", LIMIT)
    for page in copy.pages:
        copy.add_file(group, f"{group}_{page}", page, PAGE, f"{group}/{page}.xml")
    copy.add_agent("ocrd-x", "step", {"output-file-grp": group})
    return again(copy, folder)


def test_merging_adds_what_processors_added(kant: Mets, tmp_path: Path) -> None:
    kant.merge(worked_on("ONE", tmp_path))
    kant.merge(worked_on("TWO", tmp_path))
    found = again(kant, tmp_path)

    assert found.groups == ["OCR-D-IMG", "OCR-D-GT-PAGE", "ONE", "TWO"]
    assert found.pages == ["PHYS_0017", "PHYS_0020"]
    for group in found.groups:
        assert found.pages_of(group) == set(found.pages)
    assert (tmp_path / "again.xml").read_text().count("<mets:agent") == 3
    assert len(found.files()) == 8


def test_merging_again_changes_nothing(kant: Mets, tmp_path: Path) -> None:
    other = worked_on("ONE", tmp_path)
    kant.merge(other)
    kant.write(tmp_path / "once.xml")
    kant.merge(other)
    kant.write(tmp_path / "twice.xml")
    third = Mets.read(tmp_path / "twice.xml", LIMIT)
    third.merge(other)
    third.write(tmp_path / "thrice.xml")

    once = (tmp_path / "once.xml").read_bytes()
    assert once == (tmp_path / "twice.xml").read_bytes() == (tmp_path / "thrice.xml").read_bytes()


def test_merging_replaces_files_and_adds_pages(kant: Mets, tmp_path: Path) -> None:
    other = Mets.read(KANT / "mets.xml", LIMIT)
    other.add_file("OCR-D-IMG", "INPUT_0017", "PHYS_0017", "image/png", "OCR-D-IMG/new.png")
    other.add_file("OCR-D-IMG", "INPUT_0099", "PHYS_0099", "image/png", "OCR-D-IMG/99.png")
    kant.merge(other)
    found = again(kant, tmp_path)

    assert found.pages == ["PHYS_0017", "PHYS_0020", "PHYS_0099"]
    assert found.files("OCR-D-IMG", "PHYS_0017")[0].href == "OCR-D-IMG/new.png"
    assert found.files(page="PHYS_0099")[0].href == "OCR-D-IMG/99.png"


def test_unknown_elements_are_preserved(kant: Mets, tmp_path: Path) -> None:
    kant.write(tmp_path / "mets.xml")
    text = (tmp_path / "mets.xml").read_text()
    assert '<mods:identifier type="purl">http://kant_aufklaerung_1784</mods:identifier>' in text


def test_a_failed_write_keeps_the_old_file(kant: Mets, tmp_path: Path) -> None:
    target = tmp_path / "mets.xml"
    target.mkdir()  # no file can replace it
    with pytest.raises(OSError, match="directory"):
        kant.write(target)
    assert list(tmp_path.iterdir()) == [target]


# Refusals


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not well-formed"),
        (b"<a>", "not well-formed"),
        (b"<mets/>", "not METS"),
        (b"<a>" * 300 + b"</a>" * 300, "depth"),
        (b'<!DOCTYPE a [<!ENTITY x "1"><!ENTITY y "&x;&x;">]><a b="&y;"/>', "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16"), "document"),
        (b'<?xml version="1.0" encoding="UTF-7"?>+ADw-!DOCTYPE a><a/>', "unsupported encoding"),
        (b'<?xml version="1.0" encoding="iso-8859-12"?><a/>', "unsupported encoding"),
        (b"<a>\xff</a>", "not well-formed"),
        (b"\xff\xfe<", "truncated"),
    ],
    ids=range(10),
)
def test_an_unsafe_mets_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "mets.xml").write_bytes(content)
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match=reason):
        Mets.read(tmp_path / "mets.xml", LIMIT)


def test_a_missing_or_too_large_mets_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="No such file"):
        Mets.read(tmp_path / "mets.xml", LIMIT)
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="larger than 100 bytes"):
        Mets.read(KANT / "mets.xml", 100)


def test_a_mets_file_that_would_use_too_much_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(untrusted_xml, "_MAX_NODES", 1000)
    for part in ("<a/>", "<a a='' b='' c=''/>"):
        with pytest.raises(ocrd_errors.WorkspaceInvalid, match="more than 1000 elements"):
            Mets.parse(mets(pages=part * 999).encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
def test_other_encodings_are_parsed(encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + mets("IMG/ä.tif")
    assert Mets.parse(text.encode(encoding)).files()[0].href == "IMG/ä.tif"


def test_a_workspace_with_all_its_files_is_valid(kant: Mets) -> None:
    kant.check(KANT)


@pytest.mark.parametrize("link", ["file", "folder", "gone", "pipe"])
def test_files_outside_the_folder_are_refused(kant: Mets, tmp_path: Path, link: str) -> None:
    folder = tmp_path / "kant"
    shutil.copytree(KANT, folder)
    place = folder / "OCR-D-IMG/INPUT_0020.tif"
    place.unlink()
    if link == "file":
        place.symlink_to(KANT / "OCR-D-IMG/INPUT_0020.tif")
    elif link == "pipe":
        os.mkfifo(place)
    elif link == "folder":
        shutil.rmtree(place.parent)
        place.parent.symlink_to(KANT / "OCR-D-IMG")

    with pytest.raises(ocrd_errors.WorkspaceInvalid, match=r"OCR-D-IMG/INPUT_00.*does not exist"):
        kant.check(folder)


def test_nested_files_and_files_outside_groups_are_refused(tmp_path: Path) -> None:
    inner = '<mets:file ID="X"><mets:FLocat xlink:href="http://example.org/x"/></mets:file>'
    for text in (
        mets("http://example.org/a").replace("</mets:file>", f"{inner}</mets:file>"),
        mets("http://example.org/a").replace("<mets:fileSec>", f"<mets:fileSec>{inner}"),
    ):
        with pytest.raises(ocrd_errors.WorkspaceInvalid, match="inside another file"):
            Mets.parse(text.encode()).check(tmp_path)


def test_names_of_groups_and_pages_are_checked() -> None:
    assert all(map(is_group_name, ["OCR-D-IMG", "_x", "A.1", "x" * 200]))
    assert not any(
        map(is_group_name, ["", "../x", "/tmp", "-I", "1a", "ä", "a,b", "x" * 201, "a\n"])
    )
    assert all(map(is_page_id, ["PHYS_0001", "1", "p.1-a"]))
    assert not any(map(is_page_id, ["", "a,b", "a..b", "//a", "~a", "a/b", "a b", "a:b", "a\n"]))


# Ten thousand pages


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pages = "".join(
        f'<mets:div TYPE="page" ID="PHYS_{n:05d}">'
        + "".join(f'<mets:fptr FILEID="{group}_{n:05d}"/>' for group in ("IMG", "SEG", "OCR"))
        + "</mets:div>"
        for n in range(10_000)
    )
    groups = "".join(
        f'<mets:fileGrp USE="{group}">'
        + "".join(
            f'<mets:file ID="{group}_{n:05d}" MIMETYPE="{PAGE}"><mets:FLocat LOCTYPE="OTHER" '
            f'OTHERLOCTYPE="FILE" xlink:href="{group}/{n:05d}.xml"/></mets:file>'
            for n in range(10_000)
        )
        + "</mets:fileGrp>"
        for group in ("IMG", "SEG", "OCR")
    )
    text = mets(pages=pages).replace("</mets:fileSec>", f"{groups}</mets:fileSec>")
    path = tmp_path_factory.mktemp("large") / "mets.xml"
    path.write_text(text)
    return path


def test_a_copy_does_not_revert_changes_of_others(kant: Mets, tmp_path: Path) -> None:
    before, copy = (Mets.read(KANT / "mets.xml", LIMIT) for _ in range(2))
    copy.add_file("NEW", "NEW_1", "PHYS_0017", PAGE, "NEW/1.xml")
    kant.add_file("OCR-D-GT-PAGE", "PAGE_0017_PAGE", "PHYS_0017", PAGE, "OCR-D-GT-PAGE/other.xml")

    copy.keep_only_changes(before)
    kant.merge(copy)

    hrefs = {file.id: file.href for file in again(kant, tmp_path).files()}
    assert hrefs["PAGE_0017_PAGE"] == "OCR-D-GT-PAGE/other.xml"
    assert hrefs["NEW_1"] == "NEW/1.xml"


def test_ten_thousand_pages_are_parsed_resolved_merged_and_written(
    large: Path, tmp_path: Path
) -> None:
    document, copy = Mets.read(large, LIMIT), Mets.read(large, LIMIT)
    assert len(document.resolve("PHYS_00010..PHYS_00019,//PHYS_02.*,~PHYS_00015")) == 1009
    assert document.resolve(",".join(document.pages)) == document.pages
    copy.add_file("NEW", "NEW_1", "PHYS_09999", PAGE, "NEW/1.xml")
    document.merge(copy)
    document.write(tmp_path / "mets.xml")

    found = Mets.read(tmp_path / "mets.xml", LIMIT)
    assert len(found.files()) == 30_001
    assert found.pages_of("NEW") == {"PHYS_09999"}
    assert len(found.files("OCR", "PHYS_05000")) == 1
