"""An OCRmyPDF plugin that logs how long the steps of a job take: `trace NAME START SECONDS`."""

from __future__ import annotations

import functools
import logging
import time
from typing import Any

from ocrmypdf import _pipeline as pipeline
from ocrmypdf import helpers
from ocrmypdf._pipelines import _common as common
from ocrmypdf._pipelines import ocr
from ocrmypdf.builtin_plugins import optimize as optimize_plugin
from ocrmypdf.builtin_plugins import pypdfium

from ocr_tasks.jobs import leases
from ocr_tasks.pipeline import document, preservation
from ocr_tasks.plugin import engine, output_checks, reading, tesseract, textpages
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.storage import layout

log = logging.getLogger(__name__)

#: Names of the steps, and where the functions are.
STEPS: dict[str, tuple[Any, str]] = {
    "run": (document, "run"),
    "run OCRmyPDF": (document.ocrmypdf, "ocr"),
    "scan": (ocr, "do_get_pdfinfo"),
    "process the page": (reading, "read_page"),
    "render": (pypdfium, "_render_page_to_bitmap"),
    "Tesseract": (tesseract, "read"),
    "preview": (engine, "keep_preview"),
    "store the page": (PageStore, "save"),
    "draw the text layer": (textpages.PageGrafter, "graft_page"),
    "assemble": (textpages.PageGrafter, "finalize"),
    "prepare PDF/A": (output_checks, "convert_to_pdfa"),
    "metadata": (pipeline, "metadata_fixup"),
    "optimize": (optimize_plugin, "optimize"),
    "validate PDF/A": (pipeline, "_final_speculative_pdfa_passes"),
    "check": (common, "check_pdf"),
    "compare with the input": (preservation, "lost"),
    "store the PDF": (layout, "adopt_artifact"),
    "commit": (leases, "commit"),
}


def trace(owner: Any, name: str, step: str) -> None:
    """Replaces a function with one that logs how long it takes."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def traced(*arguments: Any, **more: Any) -> Any:
        started = time.time()
        try:
            return function(*arguments, **more)
        finally:
            log.info("trace %s %.6f %.6f", step.replace(" ", "_"), started, time.time() - started)

    setattr(owner, name, traced)


if not hasattr(helpers, "_traced"):  # OCRmyPDF may load a plugin several times
    helpers._traced = True
    for _step, (_owner, _name) in STEPS.items():
        trace(_owner, _name, _step)
