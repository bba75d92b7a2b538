"""Processes one document: runs OCRmyPDF on it and stores all results.

`run` is called by the process that owns the job, `help_with` by processes that help it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import ocrmypdf
from ocrmypdf import exceptions

from ocr_tasks import errors, failpoints, settings
from ocr_tasks.formats.sentences import listed
from ocr_tasks.model import Artifact, Outcome, Progress, Stage
from ocr_tasks.options import JobOptions
from ocr_tasks.pipeline import artifacts, attempts, ocrmypdf_errors, preservation
from ocr_tasks.plugin import context, drawing_limit, engine, helper, kept_pages
from ocr_tasks.plugin.context import RunContext, RunYielded
from ocr_tasks.plugin.progress import Reporter
from ocr_tasks.storage import layout

#: The job's log, and that of the service.
log = logging.getLogger("ocrmypdf.job")
server_log = logging.getLogger(__name__)

PLUGIN = "ocr_tasks.plugin"

_PORTFOLIO = "The document is a portfolio; only its cover was processed, not the attached files."
_NO_PDFA = "The document could not be converted to PDF/A; it is a plain PDF."

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
        process_scans=options.mode == "skip",
        total=start.pages_total,
        threads=_threads(run_context),
        run_context=run_context,
    )
    try:
        with ocrmypdf_errors.as_job_errors(), _new_work_folder(folder, run_id), _job_log(job):
            results, pdf_warning = _process(job, options)
    except BaseException:
        layout.delete_tree(folder.run(run_id))
        raise
    finally:
        layout.delete_tree(folder.work(run_id))
        with contextlib.suppress(OSError):  # not empty if another run of the job has a folder there
            folder.work(run_id).parent.rmdir()
    if not job.failures:
        job.pages.drop_intermediate(job.total)
    seconds = job.reporter.finish()
    return Outcome(
        run=run_id,
        artifacts=results,
        pages=job.total,
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
    job: context.OwnerContext, options: JobOptions
) -> tuple[tuple[Artifact, ...], list[str]]:
    """Creates all artifacts, and returns them with warnings about the PDF."""

    def page_ready(number: int) -> None:
        writer.page_ready(number)
        job.run_context.page_stored(number)

    drawing_limit.check(job)
    folder, run_id = job.folder, job.run
    with artifacts.Writer(folder, run_id, options, job.total, versions()) as writer:
        job.page_ready = page_ready
        job.reporter.enter(Stage.SCANNING)
        with context.job(job):
            source, pdf_warning = _make_pdf(job, options)
            _check_failures(job)
            job.reporter.enter(Stage.STORING)
            _complete_pages(job, source, writer.is_ready)
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


def _make_pdf(job: context.OwnerContext, options: JobOptions) -> tuple[Path, list[str]]:
    """Creates the PDF, if necessary from a repaired document.

    Returns the document that was processed, and warnings about the PDF.
    """
    document, before = _decrypted(job)
    first: Exception | None = None
    for number, attempt in enumerate(attempts.all_attempts(), 1):
        source = document
        try:
            if attempt.prepare:
                source = job.folder.work(job.run) / f"attempt-{number}.pdf"
                attempt.prepare(document, source)
            if attempt.fresh:
                job.pages.drop_intermediate(job.total)
            warnings = _run_attempt(job, options, source, attempt.plain)
        except Exception as error:
            if not attempts.may_help(error):
                raise
            log.info("attempt %d failed with %s: %s", number, type(error).__name__, error)
            if attempts.is_unexpected(error):  # it may be a fault of the service
                server_log.warning("attempt %d at a document failed", number, exc_info=error)
            first = first or error
        else:
            if attempt.warning:
                warnings.insert(0, attempt.warning)
            return source, [*before, *warnings, *_remarks(job.folder.input)]
    server_log.error("no attempt could process the document", exc_info=first)
    raise ocrmypdf_errors.of_document(first) from first


def _remarks(document: Path) -> list[str]:
    """Returns warnings about what was not processed."""
    remarks = []
    if attempts.was_cut(document):
        remarks.append("The end of the file is missing or damaged.")
    if preservation.is_portfolio(document):
        remarks.append(_PORTFOLIO)
    return remarks


def _decrypted(job: context.OwnerContext) -> tuple[Path, list[str]]:
    """Returns the document, or a decrypted copy, and warnings about that."""
    if not attempts.is_encrypted(job.folder.input):
        return job.folder.input, []
    copy = job.folder.work(job.run) / "decrypted.pdf"
    attempts.repair(job.folder.input, copy)
    return copy, ["The document has restrictions (an owner password); the result has none."]


def _run_attempt(
    job: context.OwnerContext, options: JobOptions, source: Path, plain: bool
) -> list[str]:
    """Creates the PDF of a document, and returns warnings about it.

    It is a PDF/A if the options ask for it, unless something of the document would be lost by that.
    `plain` asks for neither PDF/A nor optimization.
    """
    pdfa = options.output_type == "pdfa" and not plain
    try:
        warnings = _run_ocrmypdf(job, options, source, pdfa, not plain)
    except exceptions.SubprocessOutputError as error:
        if not pdfa:
            raise
        log.info("the conversion to PDF/A failed: %s", error)
        pdfa = False
        warnings = [*_run_ocrmypdf(job, options, source, pdfa, not plain), _NO_PDFA]
    result = job.folder.work(job.run) / "result.pdf"
    lost = preservation.lost(source, result)
    if lost and pdfa:
        archived = result.rename(result.with_name("archived.pdf"))
        of_plain = _run_ocrmypdf(job, options, source, False, not plain)
        still_lost = preservation.lost(source, result)
        if still_lost == lost:
            archived.rename(result)
        else:
            kept = listed(name for name in lost if name not in still_lost)
            warnings = [*of_plain, f"The result is a plain PDF; as a PDF/A it would lose {kept}."]
            lost = still_lost
    if lost:
        warnings.append(f"The result has lost {listed(lost)} of the document.")
    return warnings


def _run_ocrmypdf(
    job: context.OwnerContext,
    options: JobOptions,
    source: Path,
    pdfa: bool,
    optimize: bool,
) -> list[str]:
    """Runs OCRmyPDF on a document, and returns warnings about the PDF.

    It may run several times; pages that it has processed are not processed again.
    """
    job.failures.clear()
    job.succeeded.clear()
    job.ocr_finished.clear()
    arguments = options.for_ocrmypdf(job.total)
    # `auto` creates PDF/A if possible, otherwise a plain PDF.
    arguments["output_type"] = "auto" if pdfa else "pdf"
    if not optimize:
        arguments["optimize"] = 0
    if options.rotate_pages:
        arguments["rotate_pages_threshold"] = _ROTATION_CONFIDENCE
    config = settings.get()
    ocr_options = ocrmypdf.OcrOptions(
        input_file=source,
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
    warnings = []
    if code == exceptions.ExitCode.invalid_output_pdf:
        if not attempts.has_errors(source):
            raise errors.OutputInvalid()
        warnings.append("Parts of the document are damaged, also in the result.")
    is_pdfa = ocr_options.extra_attrs.get("_actual_output_type") == "pdfa"
    if pdfa and not is_pdfa:
        warnings.append(_NO_PDFA)
    return warnings


def _check_failures(job: context.OwnerContext) -> None:
    """Raises errors.AllPagesFailed if pages failed and none succeeded."""
    if job.failures and not job.succeeded:
        first = job.failures[min(job.failures)]
        raise errors.AllPagesFailed(
            f"OCR failed on all {len(job.failures)} pages; page {first.page}: {first.message}"
        )


def _complete_pages(
    job: context.OwnerContext, source: Path, is_ready: Callable[[int], bool]
) -> None:
    """Adds the pages on which no OCR was run to the artifacts."""
    for number in range(1, job.total + 1):
        if not is_ready(number):
            readable = None if number in job.too_slow else source
            kept_pages.store(job, readable, number, failed=number in job.failures)
            job.page_ready(number)
            job.reporter.tick()


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


#: Messages that are in the job's log only: they have no consequence, or `_make_pdf` has a warning.
_ONLY_IN_LOG = re.compile(r"(ERROR|WARNING): |Output file: |.* output file is still valid\.", re.S)


def _page(record: logging.LogRecord) -> int | None:
    """Returns the page that OCRmyPDF worked on; messages of the plugin name it themselves."""
    return None if record.name == "ocrmypdf.pages" else getattr(record, "pageno", None)


class _Warnings(logging.Handler):
    """Collects OCRmyPDF's warnings, without duplicates, and without the output of Ghostscript."""

    most = 50

    def __init__(self, texts: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "ocrmypdf._exec.ghostscript" or _ONLY_IN_LOG.match(record.getMessage()):
            return
        page = _page(record)
        where = f"page {page}: " if page else ""
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
        page = _page(record)
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
