"""What a document has besides its pages is in the result, or a warning says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name

from ocr_tasks.pipeline import preservation
from tests.ocr_tasks.pipeline.test_document import read, scan

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


def document(path: Path, *parts: Callable[[pikepdf.Pdf], None]) -> Path:
    scan(path, "garden", "window")
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        for part in parts:
            part(pdf)
        pdf.save(path)
    return path


@pytest.mark.parametrize(
    ("part", "name"),
    [(bookmarks, "bookmarks"), (attachment, "attachments"), (form, "form fields")],
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


def test_a_warning_names_what_is_lost(tmp_path: Path) -> None:
    source = document(tmp_path / "in.pdf", form)

    run = read(source, mode="force", output_type="pdf")

    lost = preservation.lost(source, run.artifact("pdf"))
    expected = ["The result has lost form fields of the document."] if lost else []
    assert [text for text in run.outcome.warnings if "has lost" in text] == expected


def test_an_endless_outline_is_counted_once(tmp_path: Path) -> None:
    source = document(tmp_path / "in.pdf", bookmarks)
    with pikepdf.open(source, allow_overwriting_input=True) as pdf:
        first = pdf.Root.Outlines.First
        first.Next.Next = first
        pdf.save(source)

    assert preservation._contents(source) == {"bookmarks": 2}
