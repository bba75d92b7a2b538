"""Which images are used for the pages of a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_tasks.ocrd import bridge
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import Workspace

PAGE = "application/vnd.prima.page+xml"
NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


@pytest.fixture
def workspace(kant: Path) -> Workspace:
    return Workspace("kant", kant)


def _add(workspace: Workspace, page: str, media_type: str, href: str, group: str = "NEW") -> None:
    mets = Mets.read(workspace.mets)
    mets.add_file(group, f"{group}_{page}_{len(mets.files())}", page, media_type, href)
    mets.write(workspace.mets)


def _add_document(workspace: Workspace, page: str, content: str) -> None:
    (workspace.folder / "NEW").mkdir(exist_ok=True)
    (workspace.folder / "NEW" / f"{page}.xml").write_text(content)
    _add(workspace, page, PAGE, f"NEW/{page}.xml")


def _document(image: str) -> str:
    return f'<PcGts xmlns="{NAMESPACE}"><Page imageFilename="{image}"/></PcGts>'


@pytest.mark.parametrize("group", ["", "OCR-D-IMG", "OCR-D-GT-PAGE"])
def test_each_page_has_its_image(workspace: Workspace, group: str) -> None:
    folder = workspace.folder / "OCR-D-IMG"
    assert bridge.images(workspace, group) == [
        ("PHYS_0017", folder / "INPUT_0017.tif", "image/tiff"),
        ("PHYS_0020", folder / "INPUT_0020.tif", "image/tiff"),
    ]


def test_some_pages_can_be_selected(workspace: Workspace) -> None:
    assert [page for page, _, _ in bridge.images(workspace, page_id="PHYS_0020")] == ["PHYS_0020"]
    with pytest.raises(ocrd_errors.PageIdsInvalid):
        bridge.images(workspace, page_id="PHYS_9")


def test_a_group_with_images_of_some_pages_is_not_selected(workspace: Workspace) -> None:
    mets = Mets.parse(
        b'<mets:mets xmlns:mets="http://www.loc.gov/METS/"><mets:fileSec/></mets:mets>'
    )
    rows = [("SOME", "P1"), ("ALL", "P1"), ("ALL", "P2")]
    for group, page in rows:
        mets.add_file(group, f"{group}_{page}", page, "image/tiff", "OCR-D-IMG/INPUT_0017.tif")
    assert bridge.first_group(mets, ["P1", "P2"]) == "ALL"
    assert bridge.first_group(mets, ["P1"]) == "SOME"
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="No file group has images of all pages"):
        bridge.first_group(mets, ["P1", "P3"])


def test_a_group_of_documents_is_used_if_there_are_no_images(workspace: Workspace) -> None:
    mets = Mets.parse(
        b'<mets:mets xmlns:mets="http://www.loc.gov/METS/"><mets:fileSec/></mets:mets>'
    )
    mets.add_file("ALTO", "A1", "P1", "application/alto+xml", "a.xml")
    mets.add_file("PAGE", "P1_PAGE", "P1", PAGE, "OCR-D-GT-PAGE/PAGE_0017_PAGE.xml")
    mets.write(workspace.mets)
    ((page, path, media_type),) = bridge.images(workspace)
    assert (page, path.name, media_type) == ("P1", "INPUT_0017.tif", "image/tiff")


def test_an_unknown_group_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ocrd_errors.FileGroupUnknown):
        bridge.images(workspace, "OCR-D-NONE")


@pytest.mark.parametrize(
    "image",
    [
        "../outside.tif",
        "/etc/passwd",
        "http://127.0.0.1/a.tif",
        "file:///etc/passwd",
        "OCR-D-IMG/missing.tif",
        "OCR-D-IMG",
        "OCR-D-IMG/link.tif",
        "OCR-D-IMG/../../outside.tif",
        "",
    ],
)
def test_a_document_cannot_lead_out_of_the_workspace(workspace: Workspace, image: str) -> None:
    (workspace.folder.parent / "outside.tif").write_bytes(b"secret")
    (workspace.folder / "OCR-D-IMG" / "link.tif").symlink_to("../../outside.tif")
    _add_document(workspace, "PHYS_0017", _document(image))
    with pytest.raises(ocrd_errors.WorkspaceInvalid):
        bridge.images(workspace, "NEW", "PHYS_0017")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no XML",
        f'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>{_document("&b;")}',
        _document("OCR-D-IMG/INPUT_0017.tif").replace(NAMESPACE, "urn:other"),
    ],
    ids=["empty", "no XML", "an entity", "no PAGE"],
)
def test_an_invalid_document_is_refused(workspace: Workspace, content: str) -> None:
    _add_document(workspace, "PHYS_0017", content)
    with pytest.raises(ocrd_errors.WorkspaceInvalid):
        bridge.images(workspace, "NEW", "PHYS_0017")


def test_a_huge_document_is_not_parsed(workspace: Workspace) -> None:
    _add_document(workspace, "PHYS_0017", _document("OCR-D-IMG/INPUT_0017.tif"))
    with (workspace.folder / "NEW" / "PHYS_0017.xml").open("ab") as file:
        file.truncate(1 << 40)  # a sparse file
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="bytes"):
        bridge.images(workspace, "NEW", "PHYS_0017")


def test_a_page_with_two_images_is_refused(workspace: Workspace) -> None:
    for name in ("INPUT_0017", "INPUT_0020"):
        _add(workspace, "PHYS_0017", "image/tiff", f"OCR-D-IMG/{name}.tif")
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="several files"):
        bridge.images(workspace, "NEW", "PHYS_0017")


def test_a_document_precedes_the_image_in_the_same_group(workspace: Workspace) -> None:
    _add(workspace, "PHYS_0017", "image/tiff", "OCR-D-IMG/INPUT_0017.tif")
    _add_document(workspace, "PHYS_0017", _document("OCR-D-IMG/INPUT_0020.tif"))
    ((_, path, _),) = bridge.images(workspace, "NEW", "PHYS_0017")
    assert path.name == "INPUT_0020.tif"


def test_a_page_without_a_file_in_the_group_is_refused(workspace: Workspace) -> None:
    _add(workspace, "PHYS_0017", "image/tiff", "OCR-D-IMG/INPUT_0017.tif")
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="PHYS_0020"):
        bridge.images(workspace, "NEW")


def test_a_remote_image_is_not_downloaded(workspace: Workspace) -> None:
    _add(workspace, "PHYS_0017", "image/tiff", "http://127.0.0.1:1/a.tif")
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="not in the workspace"):
        bridge.images(workspace, "NEW", "PHYS_0017")


def test_other_media_types_are_refused(workspace: Workspace) -> None:
    _add(workspace, "PHYS_0017", "application/alto+xml", "OCR-D-IMG/INPUT_0017.tif")
    with pytest.raises(ocrd_errors.WorkspaceInvalid, match="neither"):
        bridge.images(workspace, "NEW", "PHYS_0017")


def test_a_new_id_is_unique(workspace: Workspace) -> None:
    mets = Mets.read(workspace.mets)
    mets.add_file("OTHER", "NEW_PHYS_0017", "PHYS_0017", PAGE, "a.xml")
    mets.add_file("NEW", "mine", "PHYS_0020", PAGE, "b.xml")
    ids = bridge.OutputIds(mets)
    assert ids.of("NEW", "PHYS_0017", PAGE) == "NEW_PHYS_0017_"
    assert ids.of("NEW", "PHYS_0020", PAGE) == "mine"
    assert ids.of("NEW", "PHYS_0020", "image/png") == "NEW_PHYS_0020"
