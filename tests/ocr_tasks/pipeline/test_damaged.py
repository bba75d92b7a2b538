"""Damaged documents: what can be processed is processed, and a warning says what was changed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import img2pdf
import pikepdf
import pypdfium2
import pytest

from ocr_tasks import errors, settings
from ocr_tasks.pipeline import attempts, ocrmypdf_errors
from ocr_tasks.plugin import drawing_limit, textlayer
from tests import documents
from tests.conftest import SIX_PAGES
from tests.ocr_tasks.pipeline.test_document import picture, read, scan, words_of

pytestmark = pytest.mark.usefixtures("service")

CUT = "The end of the file is missing or damaged."
REDRAWN = "The document is damaged. Pages that cannot be processed were converted to images."
DAMAGED = "Parts of the document are damaged, also in the result."


def jpeg(text: str) -> bytes:
    target = io.BytesIO()
    picture(f"The {text} is here").save(target, "JPEG", dpi=(150, 150))
    return target.getvalue()


def of_jpegs(path: Path, *images: bytes) -> Path:
    """Writes a PDF with one page per image. An image that is cut keeps its size on the page."""
    path.write_bytes(img2pdf.convert([jpeg("garden") for _ in images], dpi=150))
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        for page, image in zip(pdf.pages, images, strict=True):
            (old,) = page.get_images().values()
            old.write(image, filter=pikepdf.Name.DCTDecode)
        pdf.save(path)
    return path


def page_count(path: Path) -> int:
    pdf = pypdfium2.PdfDocument(path)
    try:
        return len(pdf)
    finally:
        pdf.close()


def without_eoi(path: Path) -> Path:
    return of_jpegs(path, jpeg("garden")[:-2], jpeg("window"))


def half_a_jpeg(path: Path) -> Path:
    whole = jpeg("garden")
    return of_jpegs(path, whole[: len(whole) // 2], jpeg("window"))


def undecodable_content(path: Path) -> Path:
    scan(path, "garden", "window")
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.pages[0].Contents.write(b"\x00garbage", filter=pikepdf.Name.FlateDecode)
        pdf.save(path)
    return path


def cut(path: Path) -> Path:
    """Writes a PDF that lacks its end, with the cross-reference table and the trailer."""
    scan(path, "garden", "window")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    return path


@pytest.mark.parametrize(
    ("make", "warning", "words"),
    [
        (without_eoi, DAMAGED, ["garden", "window"]),
        (half_a_jpeg, DAMAGED, ["window"]),
        (undecodable_content, REDRAWN, ["window"]),
        (cut, CUT, ["garden"]),
    ],
)
def test_a_damaged_document_is_processed_as_far_as_possible(
    make: Callable[[Path], Path], warning: str, words: list[str], tmp_path: Path
) -> None:
    source = make(tmp_path / "in.pdf")
    with pikepdf.open(source) as pdf:
        pages = len(pdf.pages)

    run = read(source)

    assert warning in run.outcome.warnings
    assert not [text for text in run.outcome.warnings if "Ghostscript" in text or "ERROR" in text]
    found = words_of(run.artifact("pdf"))
    assert [word for word in words if word not in found or word not in run.text] == []
    assert page_count(run.artifact("pdf")) == pages


def test_half_a_jpeg_2000_fails_its_page(tmp_path: Path) -> None:
    """Libraries draw nothing of it, and report no error."""
    whole = documents.encoded(picture("The garden is here"), "JPEG2000")
    source = of_jpegs(tmp_path / "in.pdf", jpeg("window"), jpeg("garden"))
    with pikepdf.open(source, allow_overwriting_input=True) as pdf:
        (image,) = pdf.pages[1].get_images().values()
        image.write(whole[: len(whole) // 2], filter=pikepdf.Name.JPXDecode)
        pdf.save(source)

    run = read(source)

    assert [(page.page, page.code) for page in run.outcome.failed_pages] == [(2, "page_unreadable")]
    assert "window" in run.text
    assert page_count(run.artifact("pdf")) == 2


def test_a_sound_document_has_no_warnings(tmp_path: Path) -> None:
    assert read(scan(tmp_path / "in.pdf", "garden")).outcome.warnings == ()


def test_the_text_layer_of_a_repaired_document_is_extracted(tmp_path: Path) -> None:
    """OCRmyPDF repairs a PDF without cross-reference table; PDFium cannot open it."""
    source = tmp_path / "in.pdf"
    source.write_bytes(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
        b"4 0 obj<</Length 41>>stream\n"
        b"BT /F 20 Tf 20 100 Td (garden words) Tj ET\nendstream endobj\n"
        b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n"
    )

    with pytest.raises(pypdfium2.PdfiumError):
        pypdfium2.PdfDocument(source)

    run = read(source)

    assert page_count(run.artifact("pdf")) == 1
    assert "garden words" in run.text


def test_a_page_without_readable_text_layer_does_not_fail_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pdf: pypdfium2.PdfDocument, number: int) -> None:
        raise pypdfium2.PdfiumError("Failed to load page.")

    monkeypatch.setattr(textlayer, "words", refuse)

    run = read(SIX_PAGES, pages="4")

    assert any("could not be extracted" in text for text in run.outcome.warnings)


def test_no_attempt_can_process_some_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocr_tasks.pipeline import document

    tried: list[tuple[str, bool]] = []

    def fail(job: object, options: object, source: Path, plain: bool) -> list[str]:
        tried.append((source.name, plain))
        raise ValueError("a bounding box is impossible")

    monkeypatch.setattr(document, "_run_attempt", fail)
    with pytest.raises(errors.InputUnsupported, match="could not be repaired"):
        read(scan(tmp_path / "in.pdf", "garden"))
    names = ["input.pdf", "attempt-2.pdf", "attempt-3.pdf", "attempt-4.pdf"]
    assert tried == list(zip(names, [False, False, True, True], strict=True))


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (pikepdf.PdfError("x"), True),
        (errors.OutputInvalid(), True),
        (ValueError("x"), True),
        (OSError("cannot identify image file"), True),
        (OSError(28, "No space left on device"), False),
        (MemoryError(), False),
        (errors.PageFailed("x", page=1), False),
    ],
    ids=str,
)
def test_another_attempt_is_made_only_if_the_document_may_be_the_cause(
    error: Exception, helps: bool
) -> None:
    assert attempts.may_help(error) is helps


def test_an_error_that_is_its_own_cause_is_translated() -> None:
    error = RuntimeError("loop")
    error.__context__ = inner = ValueError("inner")
    inner.__context__ = error

    with pytest.raises(RuntimeError, match="loop"), ocrmypdf_errors.as_job_errors():
        raise error


def test_a_document_with_an_owner_password_is_processed_without_it(tmp_path: Path) -> None:
    source = tmp_path / "in.pdf"
    source.write_bytes(documents.encrypted(""))

    run = read(source)

    assert run.outcome.warnings == (
        "The document has restrictions (an owner password); the result has none.",
    )
    assert "secret" in words_of(run.artifact("pdf"))
    with pikepdf.open(run.artifact("pdf")) as pdf:
        assert not pdf.is_encrypted


@pytest.mark.parametrize("rotate", [False, True])
def test_the_resolution_of_a_page_is_lowered_to_the_limit(
    rotate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small image on a large page would make OCRmyPDF draw the page with its resolution."""
    monkeypatch.setenv("OCR_MAX_IMAGE_MEGAPIXELS", "2")
    settings.clear()
    source = tmp_path / "in.pdf"
    picture("The garden is here", size=(1000, 500)).save(source, "PDF", resolution=150)
    with pikepdf.open(source, allow_overwriting_input=True) as pdf:
        pdf.pages[0].MediaBox = pikepdf.Array([0, 0, 2000, 2000])  # 17 megapixels at 150 DPI
        pdf.save(source)

    run = read(source, rotate_pages=rotate)

    (warning,) = run.outcome.warnings
    assert "garden" in run.text
    assert re.fullmatch(r"page 1: OCR used an image of \d+ DPI", warning)
    with pikepdf.open(run.artifact("pdf")) as pdf:
        assert [float(edge) for edge in pdf.pages[0].mediabox] == [0, 0, 2000, 2000]


@pytest.mark.parametrize("mode", ["skip", "force"])
def test_a_page_that_takes_too_long_to_scan_is_kept(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forms that draw forms that draw forms…: a small file with content for hours."""
    monkeypatch.setenv("OCR_PAGE_SECONDS", "2")
    monkeypatch.setattr(drawing_limit, "_end_process", lambda job, number: None)
    settings.clear()
    source = scan(tmp_path / "in.pdf", "garden", "window")
    with pikepdf.open(source, allow_overwriting_input=True) as pdf:
        drawn = pdf.make_stream(b"0 0 1 1 re f")
        for _ in range(12):
            kind = {"Type": pikepdf.Name.XObject, "Subtype": pikepdf.Name.Form}
            drawn.update(pikepdf.Dictionary(**kind, BBox=pikepdf.Array([0, 0, 9, 9])))
            parts = pikepdf.Dictionary(XObject=pikepdf.Dictionary(F=drawn))
            drawn = pdf.make_stream(b"/F Do " * 12, Resources=parts)
        drawn.update(pikepdf.Dictionary(**kind, BBox=pikepdf.Array([0, 0, 9, 9])))
        pdf.pages[1].Resources.XObject.F = drawn
        pdf.pages[1].contents_add(pdf.make_stream(b"/F Do"))
        pdf.save(source)

    run = read(source, output_type="pdf", optimize=0, mode=mode)

    failed = [(page.page, page.code) for page in run.outcome.failed_pages]
    assert failed == ([] if mode == "skip" else [(2, "page_timeout")])
    assert "page 2 is kept as it is: scanning it took more than 2 s" in run.outcome.warnings
    assert "garden" in run.text
    assert page_count(run.artifact("pdf")) == 2
