"""An OCRmyPDF plugin with an OCR engine that sleeps for a second and returns one word."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ocrmypdf import hookimpl
from PIL import Image

from ocr_tasks.plugin.engine import PageEngine

SECONDS = 1.0

HOCR = """<?xml version="1.0" encoding="UTF-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title></title></head><body>
<div class="ocr_page" id="page_1" title="bbox 0 0 {0} {1}; ppageno 0; scan_res 72 72">
<div class="ocr_carea" title="bbox 9 9 90 30"><p class="ocr_par" title="bbox 9 9 90 30">
<span class="ocr_line" title="bbox 9 9 90 30; baseline 0 0">
<span class="ocrx_word" title="bbox 9 9 90 30; x_wconf 95">sleep</span></span></p></div></div>
</body></html>
"""


class SleepyEngine(PageEngine):
    """Sleeps instead of running OCR."""

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        time.sleep(SECONDS)
        with Image.open(input_file) as image:
            output_hocr.write_text(HOCR.format(*image.size))
        output_text.write_text("sleep\n")


@hookimpl
def get_ocr_engine(options: Any) -> SleepyEngine:
    return SleepyEngine()
