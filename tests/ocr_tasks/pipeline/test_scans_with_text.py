"""Scans whose only text is a letter or a header are processed; pages with text are not."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest
from pikepdf import Dictionary, Name

from tests.ocr_tasks.pipeline.test_document import read, scan, words_of

pytestmark = pytest.mark.usefixtures("service")

HEADER = "FROM: +49 30 1234567   TO: +49 30 7654321   28-11-2026 09:30   P. 1/3"
LONG = "These are the words of a page that needs no recognition at all. " * 3


def with_text(path: Path, text: str, visible: bool = True, share: float = 1.0) -> Path:
    """Writes a scan of the word `garden` that has a text; the scan covers a share of the page."""
    scan(path, "garden")
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        page = pdf.pages[0]
        font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
        page.Resources.Font = Dictionary(F=font)
        mode = 0 if visible else 3
        shown = f"BT /F 4 Tf {mode} Tr 5 5 Td ({text}) Tj ET".encode()
        page.contents_add(pdf.make_stream(shown), prepend=False)
        left, bottom, right, top = (float(edge) for edge in page.mediabox)
        page.mediabox = pikepdf.Array([left, bottom, right, top / share])
        pdf.save(path)
    return path


@pytest.mark.parametrize(
    ("text", "visible"),
    [("x", True), (HEADER, True), (" ", False), ("", True)],
    ids=["a letter", "a fax header", "a blank", "nothing"],
)
def test_a_scan_with_hardly_any_text_is_processed(text: str, visible: bool, tmp_path: Path) -> None:
    run = read(with_text(tmp_path / "in.pdf", text, visible))

    assert "garden" in run.text
    found = words_of(run.artifact("pdf"))
    assert "garden" in found
    assert text.strip()[:20] in found


@pytest.mark.parametrize(
    ("text", "visible", "share"),
    [(LONG, True, 1.0), ("garden words", False, 1.0), (HEADER, True, 0.4)],
    ids=["long text", "an earlier OCR", "a picture in a page"],
)
def test_a_page_with_text_of_its_own_is_kept(
    text: str, visible: bool, share: float, tmp_path: Path
) -> None:
    run = read(with_text(tmp_path / "in.pdf", text, visible, share))

    assert text.split()[0] in run.text
    assert "The garden is here" not in run.text


def test_only_the_mode_skip_decides_by_page(tmp_path: Path) -> None:
    run = read(with_text(tmp_path / "in.pdf", "x"), mode="redo")
    assert "garden" in run.text
