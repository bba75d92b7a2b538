"""Throughput of one document, with one process per core.

python -m bench.throughput [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.report import interleaved, publish, table
from bench.service import document, warm
from bench.tesseract_alone import TesseractAlone, images

ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def stock(source: Path, target: Path, language: str, *more: str) -> None:
    """Runs OCRmyPDF on the command line; like the service, it skips pages with text."""
    command = [sys.executable, "-m", "ocrmypdf", "-q", "--skip-text", "-j", str(CORES)]
    command += ["-l", language, *more]
    subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)


def words(pdf: Path) -> list[str]:
    """Returns the words of a PDF according to `pdftotext`."""
    command = ["pdftotext", str(pdf), "-"]
    output: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return output.split()


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language) as service,
        warm(source, language, OCR_GREY="true") as grey,
        TesseractAlone(language, CORES) as alone,
    ):
        folder = Path(name)
        pages = images(source, folder)
        alone.process(pages[:CORES])
        ours = folder / "ours.pdf"

        def serve() -> None:
            service.pdf(service.process(source, languages=language), ours)

        seconds = interleaved(
            {
                "OCR Tasks, upload to PDF": serve,
                f"`ocrmypdf -j {CORES}`": lambda: stock(source, folder / "stock.pdf", language),
                f"`ocrmypdf -j {CORES} --plugin ocr_tasks.plugin`": lambda: stock(
                    source, folder / "plugin.pdf", language, "--plugin", "ocr_tasks.plugin"
                ),
                "OCR Tasks with `OCR_GREY`": lambda: grey.process(source, languages=language),
                "Tesseract alone": lambda: alone.process(pages),
            },
            ROUNDS,
        )
        same = difflib.SequenceMatcher(
            None, words(folder / "stock.pdf"), words(ours), autojunk=False
        ).ratio()
    _, ocrmypdf, *_, alone_seconds = seconds.values()
    rows = [
        [name, f"{s:.2f}", f"{ocrmypdf / s:.2f}", f"{s / alone_seconds:.2f}"]
        for name, s in seconds.items()
    ]
    publish(
        "throughput",
        "One document",
        f"{source.name}, {len(pages)} pages, {CORES} processes; medians of {ROUNDS} rounds.",
        table(["", "seconds", "times as fast", "ratio to Tesseract alone"], rows),
        f"{same:.1%} of the words in the PDFs of OCR Tasks and OCRmyPDF are equal (`pdftotext`).",
    )


if __name__ == "__main__":
    main()
