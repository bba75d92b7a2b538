"""Processes one document: runs OCRmyPDF on it and stores all results.

`run` is called by the process that owns the job, `help_with` by processes that help it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import ocrmypdf
import pypdfium2
from ocrmypdf import exceptions

from ocr_tasks import errors, failpoints, settings
from ocr_tasks.model import Artifact, Outcome, Progress, Stage
from ocr_tasks.options import JobOptions
from ocr_tasks.pipeline import artifacts, ocrmypdf_errors
from ocr_tasks.plugin import context, engine, helper, previews, textlayer
from ocr_tasks.plugin.context import RunContext, RunYielded
from ocr_tasks.plugin.progress import Reporter
from ocr_tasks.storage import layout

log = logging.getLogger("ocrmypdf.job")

PLUGIN = "ocr_tasks.plugin"

#: Minimum confidence of Tesseract for rotating a page. OCRmyPDF's default of 14 rotates almost no
#: page; with 8, no page of the test documents was rotated wrongly (docs/decisions.md).
_ROTATION_CONFIDENCE = 8.0


def run(
    job_id: str, run_id: str, options: JobOptions, start: Progress, run_context: RunContext
) -> Outcome:
    """Processes the document of a job and stores its results in the run's folder.

    `start` is the progress to continue from. Returns the outcome; raises errors.JobError if the job
    fails, and RunYielded if the run yields to another document.
    """
    folder = layout.job(job_id)
    config = settings.get()
    job = context.OwnerContext(
        folder=folder,
        preview_pixels=config.preview_pixels,
        run=run_id,
        reporter=Reporter(run_context.report, start, config.progress_interval),
        keep_bad_pages=options.on_page_error == "keep",
        threads=_threads(run_context),
        run_context=run_context,
    )
    total = start.pages_total
    try:
        with ocrmypdf_errors.as_job_errors(), _new_work_folder(folder, run_id), _job_log(job):
            results, pdf_warning = _process(job, options, total)
    except BaseException:
        layout.delete_tree(folder.run(run_id))
        raise
    finally:
        layout.delete_tree(folder.work(run_id))
        with contextlib.suppress(OSError):  # not empty if another run of the job has a folder there
            folder.work(run_id).parent.rmdir()
    if not job.failures:
        job.pages.drop_intermediate(total)
    seconds = job.reporter.finish()
    return Outcome(
        run=run_id,
        artifacts=results,
        pages=total,
        seconds=seconds | {"total": round(sum(seconds.values()), 3)},
        versions=versions(),
        warnings=(*pdf_warning, *job.warnings),
        failed_pages=tuple(job.failures[number] for number in sorted(job.failures)),
    )


def _threads(run_context: RunContext) -> int:
    """Returns the number of threads. Each page that is processed remotely needs one that waits."""
    remote = run_context.remote
    if remote is None:
        return run_context.threads
    return remote.most if remote.first else run_context.threads + remote.most


def _process(
    job: context.OwnerContext, options: JobOptions, total: int
) -> tuple[tuple[Artifact, ...], list[str]]:
    """Creates all artifacts, and returns them with warnings about the PDF."""

    def page_ready(number: int) -> None:
        writer.page_ready(number)
        job.run_context.page_stored(number)

    folder, run_id = job.folder, job.run
    with artifacts.Writer(folder, run_id, options, total, versions()) as writer:
        job.page_ready = page_ready
        job.reporter.enter(Stage.SCANNING)
        with context.job(job):
            pdf_warning = _make_pdf(job, options, total)
        _check_failures(job)
        job.reporter.enter(Stage.STORING)
        _complete_pages(job, writer.is_ready, total)
        failpoints.hit("before_store")
        pdf = layout.adopt_artifact(folder, run_id, "pdf", folder.work(run_id) / "result.pdf")
        failpoints.hit("after_store")
        return (pdf, *writer.finish()), pdf_warning


def help_with(job_id: str, batch: str, has_waiting: Callable[[], bool]) -> bool:
    """Helps the owner of a job with a batch, until no items are left or `has_waiting()`.

    Returns whether items may be left.
    """
    folder = layout.job(job_id)
    work = helper.files(folder, batch).folder
    if not work.exists():
        return False  # the batch has ended, or this host does not share the folder
    job = context.JobContext(folder, settings.get().preview_pixels)
    with _job_log(job), _temporary_files_in(work), context.job(job):
        return helper.help_with(job, batch, has_waiting)


@cache
def versions() -> dict[str, str]:
    """Returns the versions of OCRmyPDF and Tesseract."""
    return {"ocrmypdf": version("ocrmypdf"), "tesseract": engine.version()}


def _make_pdf(job: context.OwnerContext, options: JobOptions, total: int) -> list[str]:
    """Runs OCRmyPDF, and returns warnings about the PDF."""
    arguments = options.for_ocrmypdf(total)
    # `auto` creates PDF/A if possible, otherwise a plain PDF.
    arguments["output_type"] = "auto" if options.output_type == "pdfa" else "pdf"
    if options.rotate_pages:
        arguments["rotate_pages_threshold"] = _ROTATION_CONFIDENCE
    config = settings.get()
    ocr_options = ocrmypdf.OcrOptions(
        input_file=job.folder.input,
        output_file=job.folder.work(job.run) / "result.pdf",
        jobs=settings.cores(),
        progress_bar=True,
        tesseract_timeout=config.page_seconds,
        tesseract_non_ocr_timeout=config.page_seconds,
        max_image_mpixels=config.max_image_megapixels,
        remove_background=options.remove_background,
        **{name: value for name, value in arguments.items() if value is not None},
    )
    remote = [job.run_context.remote.plugin] if job.run_context.remote else []
    code = ocrmypdf.ocr(ocr_options, plugins=[PLUGIN, *remote, *config.plugins])
    if code == exceptions.ExitCode.invalid_output_pdf:
        raise errors.OutputInvalid()
    if options.output_type == "pdfa" and ocr_options.extra_attrs["_actual_output_type"] != "pdfa":
        return ["The document could not be converted to PDF/A; it is a plain PDF."]
    return []


def _check_failures(job: context.OwnerContext) -> None:
    """Raises errors.AllPagesFailed if pages failed and none succeeded."""
    if job.failures and not job.succeeded:
        first = job.failures[min(job.failures)]
        raise errors.AllPagesFailed(
            f"OCR failed on all {len(job.failures)} pages; page {first.page}: {first.message}"
        )


def _complete_pages(job: context.OwnerContext, is_ready: Callable[[int], bool], total: int) -> None:
    """Stores the words of the existing text layer for pages on which no OCR was run."""
    missing = [number for number in range(1, total + 1) if not is_ready(number)]
    if not missing:
        return
    with textlayer.document(job.folder.input) as pdf:
        for number in missing:
            if not job.pages.has_words(number):
                _store_text_layer(job, pdf, number)
            job.page_ready(number)
            job.reporter.tick()


def _store_text_layer(job: context.OwnerContext, pdf: pypdfium2.PdfDocument, number: int) -> None:
    if job.preview_pixels:
        picture = textlayer.picture(pdf, number, job.preview_pixels)
        previews.from_picture(picture, job.pages.preview(number), job.preview_pixels)
    job.pages.save_words(textlayer.words(pdf, number))


# The environment of a run


@contextlib.contextmanager
def _new_work_folder(folder: layout.JobFolder, run_id: str) -> Iterator[None]:
    """Creates the folder of a run, and deletes the files of earlier runs of the job."""
    for name in ("work", "runs"):
        layout.delete_tree(folder.path / name)
    work = folder.work(run_id)
    work.mkdir(parents=True, exist_ok=True)
    with _temporary_files_in(work):
        yield


@contextlib.contextmanager
def _temporary_files_in(work: Path) -> Iterator[None]:
    """Redirects temporary files, including those of child processes, to the job's work folder.

    They are deleted with that folder, and the process needs no write access to others.
    """
    previous = tempfile.tempdir
    tempfile.tempdir = os.environ["TMPDIR"] = str(work)
    try:
        yield
    finally:
        tempfile.tempdir = previous
        del os.environ["TMPDIR"]


class _Warnings(logging.Handler):
    """Collects OCRmyPDF's warnings, without duplicates."""

    most = 50

    def __init__(self, texts: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        page = getattr(record, "pageno", None)
        where = f"page {page}: " if page and record.name != "ocrmypdf.pages" else ""
        if len(self._texts) < self.most:
            self._texts[f"{where}{record.getMessage()}"] = None


@contextlib.contextmanager
def _job_log(job: context.JobContext) -> Iterator[None]:
    """Writes OCRmyPDF's log to a file in the job's folder, and adds its warnings to the context."""
    file = logging.FileHandler(job.folder.log, encoding="utf-8")
    file.setFormatter(_LogFormat())
    warnings = _Warnings(job.warnings)
    logger = logging.getLogger("ocrmypdf")
    logger.setLevel(logging.INFO)
    for handler in (file, warnings):
        logger.addHandler(handler)
    try:
        yield
    except RunYielded:
        log.info("the run ends early to yield to another document")
        raise
    except BaseException as error:
        # No traceback, because clients can download this log.
        log.error("the job ended with %s: %s", type(error).__name__, error)  # noqa: TRY400
        raise
    finally:
        for handler in (file, warnings):
            logger.removeHandler(handler)
        file.close()


class _LogFormat(logging.Formatter):
    """Formats records as UTC time, level, page and message, without paths of this machine."""

    def format(self, record: logging.LogRecord) -> str:
        page = getattr(record, "pageno", None)
        where = f" page {page}:" if page else ""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        message = record.getMessage().replace(str(settings.get().data_dir), "…")
        return f"{stamp} {record.levelname}{where} {message}"


def page_threads(running: int) -> int:
    """Returns the number of pages that one process works on at the same time.

    `running` is the number of running jobs on all workers. If processes help each other, the cores
    are divided by the number of processes, otherwise by the number of jobs.
    """
    config = settings.get()
    return max(1, settings.cores() // (config.processes if config.helpers_max else max(1, running)))
