"""How OCR results are written back to a workspace, at the positions in its own images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pikepdf
import pytest
from lxml import etree
from PIL import Image, ImageDraw, ImageFont

from ocr_tasks import errors, options
from ocr_tasks.formats import alto, hocr
from ocr_tasks.formats.page import Block, Line, Page, Paragraph, Word
from ocr_tasks.model import Job, JobInput, Outcome, Progress, State
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import results
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.pipeline import document
from ocr_tasks.plugin.context import RunContext
from ocr_tasks.storage import layout
from ocr_tasks.uploads import images

pytestmark = pytest.mark.usefixtures("service")

PAGES = ["PHYS_0017", "PHYS_0020"]
PAGE = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"

#: A page rotated by 90 degrees, processed at another size than the image's 1457 × 2083 or 2084.
WORD = Word("Aufklärung", (208, 100, 416, 150), 0.9)
LINE = Line((208, 100, 416, 150), (0.01, -4.0), (WORD,))
BLOCK = Block((208, 100, 416, 150), (Paragraph((208, 100, 416, 150), "deu", "ltr", (LINE,)),))


@pytest.fixture
def workspace(kant: Path) -> Workspace:
    return Workspace("kant", kant)


def _job(pages: int, **chosen: object) -> Job:
    """Creates a job that has succeeded, with a PDF."""
    job_id, run = layout.new_id(), layout.new_id()
    made = layout.write_artifact(layout.job(job_id), run, "pdf", [b"%PDF-1.7 of the job"])
    return Job(
        id=job_id,
        state=State.SUCCEEDED,
        revision=1,
        attempt=1,
        created_at=1_800_000_000.0,
        ended_at=1_800_000_060.0,
        input=JobInput("kant.pdf", 1, 1, pages, "image/tiff", ""),
        options=chosen,
        progress=Progress(pages_total=pages),
        outcome=Outcome(run=run, artifacts=(made,), pages=pages, versions={}, seconds=1.0),
    )


def _words(job: Job, *pages: Page) -> None:
    for page in pages:
        path = layout.job(job.id).page(page.number)
        path.mkdir(parents=True)
        (path / "page.json").write_bytes(page.to_json())


@pytest.fixture
def job() -> Job:
    """Creates a job with two pages, the second of which was rotated."""
    job = _job(2)
    upright = Page(1, 2914, 4166, 300.0, (BLOCK,), "ocr")
    turned = Page(2, 1042, 729, 150.0, (BLOCK,), "ocr", rotation=90)
    _words(job, upright, turned)
    return job


def _points(path: Path, element: str) -> list[str | None]:
    coords = etree.parse(path).iterfind(f".//{PAGE}{element}/{PAGE}Coords")
    return [each.get("points") for each in coords]


def test_words_are_at_their_positions_in_the_image(workspace: Workspace, job: Job) -> None:
    assert results.add_results(workspace, job, PAGES) == PAGES

    first, second = (
        workspace.folder / f"OCR-D-OCR-PAGE/OCR-D-OCR-PAGE_{page}.xml" for page in PAGES
    )
    # Half the size, and not rotated.
    assert _points(first, "Word") == ["104,50 208,50 208,75 104,75"]
    # It was rotated by 90 degrees, which moves the left of the result to the top, and is twice the
    # size.
    assert _points(second, "Word") == ["1157,416 1257,416 1257,832 1157,832"]
    read = alto.parse(
        (workspace.folder / "OCR-D-OCR-ALTO/OCR-D-OCR-ALTO_PHYS_0020.xml").read_bytes(), 1, 1
    )
    assert (read.width, read.height) == (1457, 2084)
    assert [word.box for word in read.words] == [(1157, 416, 1257, 832)]
    read = hocr.parse(
        (workspace.folder / "OCR-D-OCR-HOCR/OCR-D-OCR-HOCR_PHYS_0017.hocr").read_bytes(), 1, None
    )
    assert [line.baseline for line in read.lines] == [(0.01, -2.0)]
    assert read.dpi == 150


def test_mets_contains_the_new_files(workspace: Workspace, job: Job) -> None:
    before = Mets.read(workspace.mets)
    results.add_results(workspace, job, PAGES, prefix="RESULT")
    mets = Mets.read(workspace.mets)
    mets.check(workspace.folder)
    assert mets.groups == [
        *before.groups,
        "RESULT-PAGE",
        "RESULT-ALTO",
        "RESULT-HOCR",
        "RESULT-PDF",
    ]
    for kind, media_type in {
        "PAGE": "application/vnd.prima.page+xml",
        "ALTO": "application/alto+xml",
        "HOCR": "text/vnd.hocr+html",
    }.items():
        files = mets.files(f"RESULT-{kind}")
        assert [(file.page, file.media_type) for file in files] == [(p, media_type) for p in PAGES]
    (pdf,) = mets.files("RESULT-PDF")
    assert (pdf.page, pdf.media_type) == ("", "application/pdf")
    assert (workspace.folder / pdf.href).read_bytes() == b"%PDF-1.7 of the job"


def test_writing_again_changes_nothing(workspace: Workspace, job: Job) -> None:
    def state() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()
        }

    results.add_results(workspace, job, PAGES)
    once = state()
    results.add_results(workspace, job, PAGES)
    assert state() == once


def test_another_job_replaces_its_pages(workspace: Workspace, job: Job) -> None:
    results.add_results(workspace, job, PAGES)
    other = _job(1)
    _words(other, Page(1, 1457, 2084, 300.0, (BLOCK,), "ocr"))
    results.add_results(workspace, other, PAGES[1:])
    mets = Mets.read(workspace.mets)
    assert len(mets.files("OCR-D-OCR-PAGE")) == 2
    assert len(mets.files("OCR-D-OCR-PDF")) == 2
    path = workspace.folder / mets.files("OCR-D-OCR-PAGE", PAGES[1])[0].href
    assert _points(path, "Word") == ["208,100 416,100 416,150 208,150"]


def test_a_page_without_ocr_gets_no_files(workspace: Workspace) -> None:
    job = _job(2)
    _words(job, Page.empty(1, 10, 10, 300))
    assert results.add_results(workspace, job, PAGES) == []
    assert Mets.read(workspace.mets).groups[-1] == "OCR-D-OCR-PDF"


def test_the_images_of_page_documents_take_precedence(workspace: Workspace, job: Job) -> None:
    results.add_results(workspace, job, PAGES, group="OCR-D-GT-PAGE")
    path = workspace.folder / "OCR-D-OCR-PAGE/OCR-D-OCR-PAGE_PHYS_0017.xml"
    page = etree.parse(path).find(f".//{PAGE}Page")
    assert page is not None
    assert page.get("imageFilename") == "OCR-D-IMG/INPUT_0017.tif"
    assert (page.get("imageWidth"), page.get("imageHeight")) == ("1457", "2083")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda job: replace(job, state=State.RUNNING), errors.JobNotFinished),
        (lambda job: replace(job, state=State.FAILED), errors.JobWithoutResult),
        (lambda job: replace(job, options={"deskew": True}), ocrd_errors.ProcessingInvalid),
        (
            lambda job: replace(job, input=replace(job.input, pages=3)),
            ocrd_errors.ProcessingInvalid,
        ),
    ],
    ids=["running", "failed", "deskewed", "of other pages"],
)
def test_a_job_with_other_pages_is_refused(
    workspace: Workspace, job: Job, change: Callable[[Job], Job], error: type[Exception]
) -> None:
    before = workspace.mets.read_bytes()
    with pytest.raises(error):
        results.add_results(workspace, change(job), PAGES)
    assert workspace.mets.read_bytes() == before
    assert not (workspace.folder / "OCR-D-OCR-PAGE").exists()


def test_a_prefix_cannot_lead_to_another_folder(workspace: Workspace, job: Job) -> None:
    with pytest.raises(ocrd_errors.ProcessingInvalid):
        results.add_results(workspace, job, PAGES, prefix="../x")


def test_a_symbolic_link_is_not_followed(workspace: Workspace, job: Job, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (workspace.folder / "OCR-D-OCR-PAGE").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ocrd_errors.WorkspaceInvalid):
        results.add_results(workspace, job, PAGES)
    assert list((tmp_path / "elsewhere").iterdir()) == []


# A real job with images in all orientations

FONT = ImageFont.load_default(size=34)
TEXT = "The old harbour and the garden went on to speak of thunder"
UPRIGHT = (1000, 1300)


def _picture(word: str) -> tuple[Image.Image, Image.Image]:
    """Returns a page with much text and one word that occurs only once, and that word alone."""
    page, alone = Image.new("L", UPRIGHT, "white"), Image.new("L", UPRIGHT, "white")
    draw = ImageDraw.Draw(page)
    for row in range(10):
        draw.text((60, 500 + row * 60), TEXT[:46], fill="black", font=FONT)
    for image in (page, alone):
        ImageDraw.Draw(image).text((120, 180), word, fill="black", font=ImageFont.load_default(60))
    return page, alone


@dataclass
class Turned:
    """How a page is rotated in its file: by Pillow, and EXIF's orientation."""

    turn: Image.Transpose | None = None
    orientation: int = 1
    dpi: int = 150


LYING = {
    "zebra": Turned(dpi=90),
    "window": Turned(Image.Transpose.ROTATE_90),
    "lantern": Turned(Image.Transpose.ROTATE_270),
    "feather": Turned(Image.Transpose.ROTATE_90, orientation=6),
}


def test_a_real_job_finds_words_in_every_orientation_of_an_image(tmp_path: Path) -> None:
    folder = tmp_path / "lying"
    (folder / "IMG").mkdir(parents=True)
    mets = Mets.parse(
        b'<mets:mets xmlns:mets="http://www.loc.gov/METS/"><mets:fileSec/></mets:mets>'
    )
    boxes = {}
    job = _job(len(LYING), rotate_pages=True)
    upload = layout.new_upload()
    with pikepdf.new() as pdf:
        for word, lying in LYING.items():
            page, alone = _picture(word)
            if lying.turn is not None:
                page, alone = page.transpose(lying.turn), alone.transpose(lying.turn)
            boxes[word] = alone.point(lambda value: 255 - value).getbbox()
            exif = Image.Exif()
            exif[0x0112] = lying.orientation
            path = folder / "IMG" / f"{word}.jpg"
            page.save(path, dpi=(lying.dpi, lying.dpi), exif=exif)
            mets.add_file("IMG", f"IMG_{word}", f"P_{word}", "image/jpeg", f"IMG/{word}.jpg")
            for _, part in images.to_pdfs(path, None, lambda *_: None, 1):
                with pikepdf.open(part) as one:
                    pdf.pages.extend(one.pages)
        pdf.save(upload / "input.pdf")
    mets.write(folder / "mets.xml")
    shutil.rmtree(layout.job(job.id).path)
    layout.adopt(upload, job.id)
    wanted = options.from_dict({"rotate_pages": True, "output_type": "pdf", "optimize": 0})
    start = Progress(pages_total=len(LYING))
    worker = RunContext(lambda progress: None, threads=2)
    outcome = document.run(job.id, layout.new_id(), wanted, start, worker)

    job = replace(job, outcome=outcome)
    workspace = Workspace("", folder / "mets.xml")
    assert len(results.add_results(workspace, job, [f"P_{word}" for word in LYING])) == len(LYING)

    found = {}
    for word in LYING:
        path = folder / f"OCR-D-OCR-ALTO/OCR-D-OCR-ALTO_P_{word}.xml"
        read = {each.text: each.box for each in alto.parse(path.read_bytes(), 1, 1).words}
        found[word] = read.get(word)
    for word, box in found.items():
        assert box is not None, found
        assert max(abs(a - b) for a, b in zip(box, boxes[word], strict=True)) < 12, (
            word,
            box,
            boxes,
        )
