"""An OCRmyPDF plugin that halves the processing time of a document.

    ocrmypdf --plugin ocr_tasks.plugin in.pdf out.pdf

In a worker it also reports progress, distributes pages to other workers, stores the result of each
finished page, and completes a document even if a page fails.

This module contains only the hooks. Each hook calls the module that does the work.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ocrmypdf import Executor, hookimpl
from ocrmypdf._jobcontext import PageContext
from ocrmypdf._options import OcrOptions
from ocrmypdf.pluginspec import OcrEngine

from ocr_tasks.plugin import (
    background,
    context,
    ghostscript_limit,
    jpeg_deflation,
    links,
    output_checks,
    program_versions,
    rasterizer,
    textpages,
)
from ocr_tasks.plugin.engine import PageEngine
from ocr_tasks.plugin.executor import PageExecutor
from ocr_tasks.plugin.progress import ProgressBar


@hookimpl
def initialize(plugin_manager: Any) -> None:
    background.install()
    textpages.install()
    program_versions.install()
    ghostscript_limit.install()
    links.install()
    jpeg_deflation.install()
    output_checks.install()


@hookimpl
def get_progressbar_class() -> Any:
    job = context.owner()
    return partial(ProgressBar, reporter=job.reporter) if job else None


@hookimpl
def get_executor(progressbar_class: Any) -> Executor | None:
    job = context.owner()
    return PageExecutor(job, pbar_class=progressbar_class) if job else None


@hookimpl
def get_ocr_engine(options: OcrOptions | None) -> OcrEngine | None:
    if options is not None and options.ocr_engine not in ("auto", "tesseract"):
        return None
    return PageEngine()


rasterize_pdf_page = hookimpl(rasterizer.rasterize)


@hookimpl
def filter_page_image(page: PageContext, image_filename: Path) -> Path:
    return rasterizer.compressed(page, image_filename)
