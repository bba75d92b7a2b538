"""The OCRmyPDF plugin: hooks only, each leading to the module that does the work.

    ocrmypdf.ocr(options, plugins=["ocr_tasks.plugin"])

reports progress, keeps the result of every page as soon as it is there, and does not let one bad
page spoil a document.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ocrmypdf import Executor, hookimpl
from ocrmypdf._options import OcrOptions
from ocrmypdf.pluginspec import OcrEngine

from ocr_tasks.plugin import background, context
from ocr_tasks.plugin.engine import PageEngine
from ocr_tasks.plugin.executor import PageExecutor
from ocr_tasks.plugin.progress import ProgressBar


@hookimpl
def initialize(plugin_manager: Any) -> None:
    background.install()


@hookimpl
def get_progressbar_class() -> Any:
    job = context.current()
    return partial(ProgressBar, reporter=job.reporter) if job else None


@hookimpl
def get_executor(progressbar_class: Any) -> Executor | None:
    job = context.current()
    return PageExecutor(job, pbar_class=progressbar_class) if job else None


@hookimpl
def get_ocr_engine(options: OcrOptions | None) -> OcrEngine | None:
    return PageEngine() if context.current() else None
