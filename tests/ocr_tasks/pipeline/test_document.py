"""OCR of real documents with OCRmyPDF, and with a misbehaving Tesseract.

The words of most pages are recorded (`tests/plugins/replay.py`). Tests of OCR itself use the real
Tesseract, and so do all pages that are not recorded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest
import redis
from PIL import Image, ImageDraw, ImageFont

from ocr_tasks import errors, options, settings
from ocr_tasks.model import Outcome, Progress, Stage
from ocr_tasks.pipeline import document
from ocr_tasks.pipeline.preservation import lost as lost_parts
from ocr_tasks.plugin import background, tesseract
from ocr_tasks.plugin.context import RunContext
from ocr_tasks.storage import layout
from tests.conftest import SIX_PAGES
from tests.plugins import faults

pytestmark = pytest.mark.usefixtures("replayed")

WORDS = ["zebra", "harbour", "window", "garden", "thunder"]


def picture(text: str, color: str = "white", size: tuple[int, int] = (1240, 600)) -> Image.Image:
    image = Image.new("RGB", size, color)
    draw = ImageDraw.Draw(image)
    draw.text((120, 200), text, fill="black", font=ImageFont.load_default(size=70))
    return image


def noise() -> Image.Image:
    """Returns a page that Tesseract takes for text and that keeps it busy for a second."""
    words = [f"{random.Random(n).getrandbits(40):x}" for n in range(300)]
    image = Image.new("RGB", (1240, 1754), "white")
    lines = [" ".join(words[row : row + 6]) for row in range(0, 300, 6)]
    ImageDraw.Draw(image).multiline_text(
        (50, 50), "\n".join(lines), fill="black", font=ImageFont.load_default(24), spacing=8
    )
    return image


def full_page() -> Image.Image:
    """Returns ten lines of text, enough to detect their orientation and skew."""
    image = Image.new("L", (1000, 700), "white")
    pairs = [(word, other) for word in WORDS[:2] for other in WORDS]
    lines = [f"{word} and the old {other} went on to speak" for word, other in pairs]
    ImageDraw.Draw(image).multiline_text(
        (120, 100), "\n".join(lines), fill="black", font=ImageFont.load_default(32), spacing=20
    )
    return image


def scan(path: Path, *texts: str, **kwargs: Any) -> Path:
    """Returns a PDF with one page per text, drawn as an image."""
    first, *rest = [picture(f"The {text} is here", **kwargs) for text in texts]
    first.save(path, "PDF", save_all=True, append_images=rest, resolution=150)
    return path


@dataclass
class Run:
    job_id: str
    outcome: Outcome
    reports: list[Progress]

    @property
    def folder(self) -> layout.JobFolder:
        return layout.job(self.job_id)

    def artifact(self, name: str) -> Path:
        return self.folder.artifact(self.outcome.run, name)

    @property
    def text(self) -> str:
        return self.artifact("text").read_text()


def take_in(source: Path, job_id: str) -> None:
    """Stores a document as the input of the job."""
    upload = layout.new_upload()
    shutil.copy(source, upload / "input.pdf")
    layout.adopt(upload, job_id)


def read(source: Path, job_id: str | None = None, **chosen: Any) -> Run:
    if job_id is None:
        job_id = layout.new_id()
        take_in(source, job_id)
    with pikepdf.open(source) as pdf:
        start = Progress(pages_total=len(pdf.pages))
    reports: list[Progress] = []
    run_id = layout.new_id()
    wanted = options.from_dict(chosen)
    outcome = document.run(job_id, run_id, wanted, start, RunContext(reports.append, threads=2))
    done = Run(job_id, outcome, reports)
    if lost := lost_parts(source, done.artifact("pdf")):
        assert [text for text in outcome.warnings if "has lost" in text and lost[0] in text]
    if not (wanted.rotate_pages or wanted.deskew):
        with contextlib.suppress(pypdfium2.PdfiumError):  # it cannot open the damaged document
            assert sizes(source) == pytest.approx(sizes(done.artifact("pdf")), abs=2)
    return done


def sizes(path: Path) -> list[float]:
    """Returns width and height of each page as it is shown, in points."""
    with pikepdf.open(path) as opened:
        units = [float(page.obj.get("/UserUnit", 1)) for page in opened.pages]
    pdf = pypdfium2.PdfDocument(path)
    try:
        shown = [pdf.get_page_size(index) for index in range(len(pdf))]
    finally:
        pdf.close()
    return [side * unit for size, unit in zip(shown, units, strict=True) for side in size]


def words_of(path: Path) -> str:
    pdf = pypdfium2.PdfDocument(path)
    try:
        return " ".join(page.get_textpage().get_text_range() for page in pdf)
    finally:
        pdf.close()


@pytest.fixture
def replayed(service: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pages that are recorded get the words that Tesseract recognized then."""
    monkeypatch.setenv("OCR_PLUGINS", "tests.plugins.replay")
    settings.clear()


@pytest.fixture
def real_ocr(replayed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the real Tesseract on all pages."""
    monkeypatch.delenv("OCR_PLUGINS")
    settings.clear()


@pytest.fixture
def pages_read(replayed: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Uses an engine that fails as the document's title requests; returns the pages it receives."""
    monkeypatch.setenv("OCR_PLUGINS", "tests.plugins.faults")
    settings.clear()
    faults.calls.clear()
    return faults.calls


@pytest.mark.usefixtures("real_ocr")
def test_a_scan_becomes_a_searchable_pdf_with_all_artifacts(tmp_path: Path) -> None:
    run = read(scan(tmp_path / "in.pdf", *WORDS[:3]))

    for word in WORDS[:3]:
        assert word in words_of(run.artifact("pdf"))
        for name in ("text", "hocr", "alto", "json"):
            assert word in run.artifact(name).read_text()
    assert [row.name for row in run.outcome.artifacts] == ["pdf", "text", "hocr", "alto", "json"]
    for row in run.outcome.artifacts:
        assert row.bytes == run.artifact(row.name).stat().st_size
    assert run.outcome.pages == 3
    assert run.outcome.versions.keys() == {"ocrmypdf", "tesseract"}
    assert run.outcome.warnings == ()
    with pikepdf.open(run.artifact("pdf")) as pdf, pdf.open_metadata() as meta:
        assert meta.pdfa_status


def test_recorded_pages_need_no_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tesseract, "read", None)

    text = read(SIX_PAGES, pages="1-3,5-6").text

    assert "stooping down so as" in text, "record again: python -m tests.plugins.replay"


def test_progress_is_reported_page_by_page_through_all_stages(tmp_path: Path) -> None:
    run = read(scan(tmp_path / "in.pdf", *WORDS[:3]))

    stages = list(dict.fromkeys(report.stage for report in run.reports))
    assert stages[:2] == [Stage.SCANNING, Stage.OCR]
    assert stages[-1] is Stage.STORING
    percents = [report.percent for report in run.reports]
    assert percents == sorted(percents)
    assert run.reports[-1].pages_done == 3
    assert run.outcome.seconds["total"] > 0


def test_no_temporary_files_are_left(tmp_path: Path) -> None:
    run = read(scan(tmp_path / "in.pdf", WORDS[0]))

    left = {path.name for path in run.folder.path.rglob("*") if path.is_file()}
    results = {file for file, _, _ in layout.ARTIFACTS.values()}
    pages = {"page.json", "summary.json", "preview.jpg"}
    assert left == {"input.pdf", "log.txt"} | results | pages


def test_another_run_deletes_the_files_of_the_previous_one(tmp_path: Path) -> None:
    source = scan(tmp_path / "in.pdf", WORDS[0])
    first = read(source)
    leftover = first.folder.work("a run that was killed") / "x"
    leftover.mkdir(parents=True)

    second = read(source, job_id=first.job_id)

    assert not leftover.exists()
    assert [run.name for run in (second.folder.path / "runs").iterdir()] == [second.outcome.run]


def test_the_input_is_unchanged(tmp_path: Path) -> None:
    source = scan(tmp_path / "in.pdf", WORDS[0])
    run = read(source)

    assert run.folder.input.read_bytes() == source.read_bytes()


def test_the_log_describes_the_run_without_paths_of_the_host() -> None:
    run = read(SIX_PAGES, pages="2,4")

    log = run.folder.log.read_text()
    assert "page 4: skipping all processing on this page" in log
    assert str(settings.get().data_dir) not in log


# Pages that already have text


def test_skip_keeps_pages_with_text_and_returns_their_words() -> None:
    run = read(SIX_PAGES, pages="2,4")

    pages = [json.loads(run.folder.page_words(number) or b"") for number in range(1, 7)]
    assert [page["source"] for page in pages] == ["none", "ocr", "none", "pdf", "none", "none"]
    assert run.text.split("\f")[3].strip()
    assert all(run.folder.page_preview(number).exists() for number in range(1, 7))


def test_refuse_fails_if_there_is_text() -> None:
    with pytest.raises(errors.PriorText, match="page 4"):
        read(SIX_PAGES, mode="refuse")


def test_force_runs_ocr_again_on_pages_with_text(tmp_path: Path) -> None:
    once = read(scan(tmp_path / "in.pdf", WORDS[0]))
    again = read(once.artifact("pdf"), mode="force")

    assert WORDS[0] in again.text
    assert json.loads(again.folder.page_words(1) or b"")["source"] == "ocr"


def test_redo_replaces_the_text_of_an_earlier_ocr(tmp_path: Path) -> None:
    once = read(scan(tmp_path / "in.pdf", WORDS[0]))
    again = read(once.artifact("pdf"), mode="redo")

    assert words_of(again.artifact("pdf")).count(WORDS[0]) == 1


# Options that change the image


def test_pages_that_lie_on_their_side_are_rotated(tmp_path: Path) -> None:
    full_page().rotate(90, expand=True).save(tmp_path / "in.pdf", "PDF", resolution=200)

    upright = read(tmp_path / "in.pdf", rotate_pages=True)

    assert upright.text.count("went on to speak") > 8
    pdf = pypdfium2.PdfDocument(upright.artifact("pdf"))
    width, height = pdf[0].get_size()
    pdf.close()
    assert width > height
    page = json.loads(upright.folder.page_words(1) or b"")
    assert page["width"] > page["height"]


def test_a_skewed_page_is_straightened(tmp_path: Path) -> None:
    askew = full_page().rotate(3, Image.Resampling.BICUBIC, fillcolor="white")
    askew.save(tmp_path / "in.pdf", "PDF", resolution=200)

    run = read(tmp_path / "in.pdf", deskew=True)

    tops = [
        [word["box"][1] for word in line["words"]]
        for line in json.loads(run.artifact("json").read_text())["pages"][0]["lines"]
        if len(line["words"]) > 4
    ]
    assert tops
    assert all(max(row) - min(row) < 20 for row in tops)


def test_the_background_becomes_white(tmp_path: Path) -> None:
    source = scan(tmp_path / "in.pdf", WORDS[0], color="#d8c8a0")
    run = read(source, remove_background=True)

    pdf = pypdfium2.PdfDocument(run.artifact("pdf"))
    seen = pdf[0].render(scale=1).to_pil().convert("L")
    pdf.close()
    assert seen.getpixel((20, 20)) > 245
    assert WORDS[0] in run.text


def test_removing_the_background_keeps_the_ink() -> None:
    image = picture("ink", color="#808080").convert("L")

    whitened = background.whiten(image)

    assert whitened.getpixel((5, 5)) == 255
    assert whitened.getextrema()[0] < 140


def test_cleaning_recognizes_a_page_with_specks(tmp_path: Path) -> None:
    run = read(scan(tmp_path / "in.pdf", WORDS[0]), clean=True)

    assert WORDS[0] in run.text


def test_metadata_and_plain_pdf_are_as_requested(tmp_path: Path) -> None:
    run = read(
        scan(tmp_path / "in.pdf", WORDS[0]),
        output_type="pdf",
        optimize=0,
        title="Der Titel",
        author="Ämilie",
        subject="x",
        keywords="a, b",
        sidecar=False,
    )

    assert "text" not in [row.name for row in run.outcome.artifacts]
    with pikepdf.open(run.artifact("pdf")) as pdf:
        assert str(pdf.docinfo["/Title"]) == "Der Titel"
        assert str(pdf.docinfo["/Author"]) == "Ämilie"
        with pdf.open_metadata() as meta:
            assert not meta.pdfa_status


# Pages that fail


def test_one_bad_page_does_not_fail_a_document(tmp_path: Path, pages_read: list[int]) -> None:
    run = read(scan(tmp_path / "in.pdf", *WORDS[:3]), title="fault: crash 2")

    assert [(row.page, row.code) for row in run.outcome.failed_pages] == [(2, "page_unreadable")]
    assert WORDS[0] in run.text
    assert WORDS[1] not in run.text
    assert WORDS[2] in run.text
    pdf = pypdfium2.PdfDocument(run.artifact("pdf"))
    darkest = pdf[1].render(scale=1).to_pil().convert("L").getextrema()[0]
    pdf.close()
    assert darkest < 100, "the page keeps its image"


def test_a_retry_processes_only_the_failed_page(tmp_path: Path, pages_read: list[int]) -> None:
    source = scan(tmp_path / "in.pdf", *WORDS[:3])
    first = read(source, title="fault: crash 2")
    assert sorted(pages_read) == [1, 2, 3]
    pages_read.clear()

    second = read(source, job_id=first.job_id)

    assert pages_read == [2]
    assert second.outcome.failed_pages == ()
    assert all(word in words_of(second.artifact("pdf")) for word in WORDS[:3])
    assert all(word in second.text for word in WORDS[:3])


def test_on_page_error_fail_ends_the_job_and_names_the_page(
    tmp_path: Path, pages_read: list[int]
) -> None:
    source = scan(tmp_path / "in.pdf", *WORDS[:3])
    with pytest.raises(errors.PageFailed) as failed:
        read(source, title="fault: crash 2", on_page_error="fail")

    assert failed.value.page == 2


def test_a_document_whose_pages_all_fail_fails(tmp_path: Path, pages_read: list[int]) -> None:
    with pytest.raises(errors.AllPagesFailed):
        read(scan(tmp_path / "in.pdf", *WORDS[:2]), title="fault: crash")


def test_pages_with_their_own_text_count_as_successful(
    tmp_path: Path, pages_read: list[int]
) -> None:
    with_text = read(scan(tmp_path / "first.pdf", WORDS[0])).artifact("pdf")
    with (
        pikepdf.open(with_text) as mixed,
        pikepdf.open(scan(tmp_path / "second.pdf", WORDS[1])) as second,
    ):
        mixed.pages.extend(second.pages)
        mixed.save(tmp_path / "mixed.pdf")

    run = read(tmp_path / "mixed.pdf", title="fault: crash")

    assert [row.page for row in run.outcome.failed_pages] == [2]
    assert WORDS[0] in run.text
    with pytest.raises(errors.AllPagesFailed):
        read(tmp_path / "mixed.pdf", title="fault: crash", pages="2")


@pytest.mark.usefixtures("real_ocr")
def test_a_page_that_exceeds_its_time_limit_keeps_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def hurried(
        image: Image.Image, model: tesseract.Model, *, seconds: float, **chosen: Any
    ) -> Any:
        """Runs with a time limit that the second page exceeds on any machine."""
        limits.append(seconds)
        seconds = seconds if image.height < 1000 else 0.001
        return read_image(image, model, seconds=seconds, **chosen)

    read_image = tesseract.read
    monkeypatch.setattr(tesseract, "read", hurried)
    monkeypatch.setenv("OCR_PAGE_SECONDS", "77")
    settings.clear()
    quick, slow = picture("The zebra is here"), noise()
    quick.save(tmp_path / "in.pdf", "PDF", save_all=True, append_images=[slow], resolution=150)

    run = read(tmp_path / "in.pdf")

    assert limits == [77, 77]
    assert [(row.page, row.code) for row in run.outcome.failed_pages] == [(2, "page_timeout")]
    assert WORDS[0] in run.text
    pdf = pypdfium2.PdfDocument(run.artifact("pdf"))
    darkest = pdf[1].render(scale=1).to_pil().convert("L").getextrema()[0]
    pdf.close()
    assert darkest < 100, "the page keeps its image"


def test_a_blank_page_is_not_a_failure(tmp_path: Path) -> None:
    Image.new("L", (800, 600), "white").save(tmp_path / "in.pdf", "PDF", resolution=100)
    run = read(tmp_path / "in.pdf")

    assert run.outcome.failed_pages == ()
    assert run.text.strip() == ""


def test_an_aborted_progress_report_ends_the_run(tmp_path: Path) -> None:
    class Refused(Exception):
        pass

    def refuse(progress: Progress) -> None:
        if progress.stage is Stage.OCR:
            raise Refused

    job_id = layout.new_id()
    take_in(scan(tmp_path / "in.pdf", *WORDS), job_id)

    wanted = options.from_dict({})
    worker = RunContext(refuse, threads=2)
    with pytest.raises(Refused):
        document.run(job_id, "run", wanted, Progress(pages_total=5), worker)

    assert not (layout.job(job_id).path / "work").exists()


def test_the_plugin_works_with_the_python_api_of_ocrmypdf(tmp_path: Path) -> None:
    import ocrmypdf

    source = scan(tmp_path / "in.pdf", WORDS[0])
    ocrmypdf.ocr(source, tmp_path / "out.pdf", plugins=["ocr_tasks.plugin"], progress_bar=False)

    assert WORDS[0] in words_of(tmp_path / "out.pdf")


def test_an_outcome_survives_a_round_trip_through_json(tmp_path: Path) -> None:
    outcome = read(scan(tmp_path / "in.pdf", WORDS[0])).outcome

    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome
    assert dataclasses.is_dataclass(outcome)
