"""What a document has besides its pages is in the result, or a warning says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name, String

from ocr_tasks import errors
from ocr_tasks.pipeline import preservation
from ocr_tasks.plugin.engine import PageEngine
from tests.ocr_tasks.pipeline.test_document import read, scan
from tests.ocr_tasks.uploads.test_merging import check_both, merged, rich

pytestmark = pytest.mark.usefixtures("service")


def bookmarks(pdf: pikepdf.Pdf) -> None:
    with pdf.open_outline() as outline:
        outline.root += [pikepdf.OutlineItem("One", 0), pikepdf.OutlineItem("Two", 1)]


def attachment(pdf: pikepdf.Pdf) -> None:
    pdf.attachments["invoice.xml"] = b"<invoice/>"


def form(pdf: pikepdf.Pdf) -> None:
    field = Dictionary(FT=Name.Tx, T="name", V="Anna", Rect=Array([10, 10, 90, 30]))
    field.update(Dictionary(Type=Name.Annot, Subtype=Name.Widget))
    added = pdf.make_indirect(field)
    pdf.pages[0].Annots = Array([added])
    pdf.Root.AcroForm = Dictionary(Fields=Array([added]))


def links(pdf: pikepdf.Pdf) -> None:
    """Adds a link to a page, to a web page and to another document, in a PDF with names."""
    actions = [
        Dictionary(S=Name.GoTo, D=Array([pdf.pages[1].obj, Name.Fit])),
        Dictionary(S=Name.URI, URI=String("https://example.org")),
        Dictionary(S=Name.GoToR, F=String("other.pdf"), D=String("there")),
        Dictionary(S=Name.GoTo, D=String("known")),
    ]
    pdf.pages[0].Annots = Array(
        [
            pdf.make_indirect(
                Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([9, 9, 90, 30]), A=action)
            )
            for action in actions
        ]
    )
    names(pdf)


def names(pdf: pikepdf.Pdf) -> None:
    tree = pikepdf.NameTree.new(pdf)
    tree["known"] = Array([pdf.pages[1].obj, Name.Fit])
    pdf.Root.Names = Dictionary(Dests=tree.obj)


def names_and_form(pdf: pikepdf.Pdf) -> None:
    names(pdf)
    form(pdf)


def labels(pdf: pikepdf.Pdf) -> None:
    pdf.Root.PageLabels = Dictionary(Nums=Array([0, Dictionary(S=Name.r)]))


def information(pdf: pikepdf.Pdf) -> None:
    pdf.docinfo.Title, pdf.docinfo.Author = "The garden", "Anna"


def language(pdf: pikepdf.Pdf) -> None:
    pdf.Root.Lang = "de"


def document(path: Path, *parts: Callable[[pikepdf.Pdf], None]) -> Path:
    scan(path, "garden", "window")
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        for part in parts:
            part(pdf)
        pdf.save(path)
    return path


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (bookmarks, "bookmarks"),
        (attachment, "attachments"),
        (form, "form fields and values of form fields"),
        (names_and_form, "named destinations, form fields and values of form fields"),
        (names, "named destinations"),
        (labels, "page labels"),
        (information, "title, author, subject or keywords"),
        (language, "the language"),
    ],
)
@pytest.mark.parametrize("output_type", ["pdfa", "pdf"])
def test_nothing_is_lost(
    part: Callable[[pikepdf.Pdf], None], name: str, output_type: str, tmp_path: Path
) -> None:
    source = document(tmp_path / "in.pdf", part)

    run = read(source, output_type=output_type)

    assert preservation.lost(source, run.artifact("pdf")) == []
    assert not [text for text in run.outcome.warnings if "has lost" in text]
    with pikepdf.open(run.artifact("pdf")) as pdf:
        is_pdfa = bool(pdf.open_metadata().pdfa_status)
    plain = f"The result is a plain PDF; as a PDF/A it would lose {name}."
    assert (plain in run.outcome.warnings) is (output_type == "pdfa" and not is_pdfa)


@pytest.mark.parametrize("output_type", ["pdfa", "pdf"])
def test_links_are_kept_except_broken_ones(output_type: str, tmp_path: Path) -> None:
    def more(pdf: pikepdf.Pdf) -> None:
        links(pdf)
        pdf.pages[0].Annots[3].A.D = String("unknown")

    run = read(document(tmp_path / "in.pdf", more), output_type=output_type)

    with pikepdf.open(run.artifact("pdf")) as pdf:
        annotations = [dict(row) for row in pdf.pages[0].Annots]
        assert len(annotations) == 4
        assert annotations[0]["/A"].D[0].objgen == pdf.pages[1].objgen
        assert str(annotations[1]["/A"].URI) == "https://example.org"
        assert str(annotations[2]["/A"].D) == "there"
        assert "/D" not in annotations[3]["/A"]
    assert "page 1: a link to the missing destination unknown is disabled" in run.outcome.warnings


def test_a_portfolio_keeps_its_cover_and_its_files(tmp_path: Path) -> None:
    inner = document(tmp_path / "inner.pdf").read_bytes()

    def portfolio(pdf: pikepdf.Pdf) -> None:
        del pdf.pages[1]
        pdf.attachments["inner.pdf"] = inner
        pdf.Root.Collection = Dictionary(Type=Name.Collection, View=Name.D)

    run = read(document(tmp_path / "in.pdf", portfolio))

    with pikepdf.open(run.artifact("pdf")) as pdf:
        assert len(pdf.pages) == 1
        assert pdf.attachments["inner.pdf"].get_file().read_bytes() == inner
        assert "/Collection" in pdf.Root
    assert "garden" in run.text
    assert any("only its cover was processed" in text for text in run.outcome.warnings)


def test_a_merged_document_has_everything_of_its_files(tmp_path: Path) -> None:
    with merged(rich(tmp_path / "1.pdf", "one"), rich(tmp_path / "2.pdf", "two")):
        run = read(tmp_path / "merged.pdf")

    with pikepdf.open(run.artifact("pdf")) as pdf:
        check_both(pdf)
    assert not [text for text in run.outcome.warnings if "has lost" in text]


def test_form_fields_that_become_part_of_an_image_are_lost(tmp_path: Path) -> None:
    run = read(document(tmp_path / "in.pdf", form), mode="force")

    assert "The result has lost form fields of the document." in run.outcome.warnings


def test_other_pages_than_those_of_the_document_are_a_loss(tmp_path: Path) -> None:
    one, two = (tmp_path / name for name in ("one.pdf", "two.pdf"))
    scan(one, "garden")
    scan(two, "garden", "window")

    assert preservation.lost(one, two) == preservation.lost(two, one) == ["pages"]


def test_a_warning_names_what_is_lost_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preservation, "lost", lambda before, after: ["tags", "layers"])

    run = read(scan(tmp_path / "in.pdf", "garden"))

    assert run.outcome.warnings == ("The result has lost tags and layers of the document.",)
    with pikepdf.open(run.artifact("pdf")) as pdf:  # a plain PDF would have been no better
        assert pdf.open_metadata().pdfa_status


def test_a_page_that_succeeds_the_second_time_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OCRmyPDF runs a second time for a plain PDF, and processes the page that failed again."""
    losses = [["tags"], []]
    calls: list[None] = []
    original = PageEngine.generate_hocr

    def fail_once(*arguments: Any, **more: Any) -> None:
        calls.append(None)
        if len(calls) == 1:
            raise errors.PageTimeout
        original(*arguments, **more)

    monkeypatch.setattr(preservation, "lost", lambda before, after: losses.pop(0))
    monkeypatch.setattr(PageEngine, "generate_hocr", staticmethod(fail_once))

    run = read(scan(tmp_path / "in.pdf", "garden", "window"))

    assert len(calls) == 3
    assert run.outcome.failed_pages == ()
    assert "garden" in run.text


def test_an_endless_outline_is_counted_once(tmp_path: Path) -> None:
    source = document(tmp_path / "in.pdf", bookmarks)
    with pikepdf.open(source, allow_overwriting_input=True) as pdf:
        first = pdf.Root.Outlines.First
        first.Next.Next = first
        pdf.save(source)

    assert preservation._contents(source)["bookmarks"] == 2


def test_empty_information_is_not_lost(tmp_path: Path) -> None:
    """LaTeX writes empty entries, which OCRmyPDF deletes."""

    def empty(pdf: pikepdf.Pdf) -> None:
        for key in ("/Title", "/Author", "/Subject", "/Keywords"):
            pdf.docinfo[key] = ""

    run = read(document(tmp_path / "in.pdf", empty))

    assert run.outcome.warnings == ()


def test_lists_that_many_objects_share_are_visited_in_part(tmp_path: Path) -> None:
    """They would be visited millions of times."""

    def shared(pdf: pikepdf.Pdf) -> None:
        many = pdf.make_indirect(Array([pdf.make_indirect(Dictionary())] * 5_000))
        nodes = Array([pdf.make_indirect(Dictionary(Kids=many, Names=many)) for _ in range(500)])
        pdf.Root.AcroForm = Dictionary(Fields=nodes)
        pdf.Root.Names = Dictionary(Dests=Dictionary(Kids=nodes))
        for page in pdf.pages:
            page.obj.Annots = many

    counted = preservation._contents(document(tmp_path / "in.pdf", bookmarks, shared))

    assert (counted["pages"], counted["bookmarks"]) == (2, 2)
    assert "values of form fields" not in counted
