"""One document, as many processes as cores.

python -m bench.throughput [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.floor import Floor, images
from bench.report import interleaved, publish, table
from bench.service import document, warm

ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def stock(source: Path, target: Path, language: str, *more: str) -> None:
    """OCRmyPDF from the shell."""
    command = [sys.executable, "-m", "ocrmypdf", "-q", "-j", str(CORES), "-l", language, *more]
    subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)


def words(pdf: Path) -> list[str]:
    """What `pdftotext` finds."""
    command = ["pdftotext", str(pdf), "-"]
    said: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said.split()


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language) as service,
        warm(source, language, OCR_GREY="true") as grey,
        Floor(language, CORES) as floor,
    ):
        folder = Path(name)
        pages = images(source, folder)
        floor.read(pages[:CORES])
        ours = folder / "ours.pdf"

        def serve() -> None:
            service.pdf(service.read(source, languages=language), ours)

        seconds = interleaved(
            {
                "our service, submit to PDF": serve,
                f"stock `ocrmypdf -j {CORES}`": lambda: stock(
                    source, folder / "stock.pdf", language
                ),
                f"`ocrmypdf -j {CORES} --plugin ocr_tasks.plugin`": lambda: stock(
                    source, folder / "plugin.pdf", language, "--plugin", "ocr_tasks.plugin"
                ),
                "our service with OCR_GREY": lambda: grey.read(source, languages=language),
                "the floor: Tesseract alone": lambda: floor.read(pages),
            },
            ROUNDS,
        )
        same = difflib.SequenceMatcher(
            None, words(folder / "stock.pdf"), words(ours), autojunk=False
        ).ratio()
    _, shell, *_, least = seconds.values()
    rows = [
        [name, f"{s:.2f}", f"{shell / s:.2f} times", f"{s / least:.2f}"]
        for name, s in seconds.items()
    ]
    publish(
        "throughput",
        "One document",
        f"{source.name}, {len(pages)} pages, {CORES} processes; medians of {ROUNDS} rounds.",
        table(["", "seconds", "as fast as stock", "of the floor"], rows),
        f"Words that `pdftotext` finds in our PDF and in stock OCRmyPDF's: {same:.1%} the same.",
    )


if __name__ == "__main__":
    main()
