"""Latency of a one-page scan.

python -m bench.latency [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.report import interleaved, publish, table
from bench.service import document, repeated, warm
from bench.tesseract_alone import TesseractAlone, images
from bench.throughput import stock

ROUNDS = 7


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language) as service,
        warm(source, language, OCR_GREY="true") as grey,
        TesseractAlone(language, 1) as alone,
    ):
        folder = Path(name)
        page = repeated(source, folder / "page.pdf", 1)
        pages = images(page, folder)
        alone.process(pages)
        seconds = interleaved(
            {
                "OCR Tasks, upload to result": lambda: service.process(page, languages=language),
                "OCR Tasks with `OCR_GREY`": lambda: grey.process(page, languages=language),
                "`ocrmypdf`": lambda: stock(page, folder / "out.pdf", language),
                "Tesseract alone": lambda: alone.process(pages),
            },
            ROUNDS,
        )
    *_, ocrmypdf, alone_seconds = seconds.values()
    rows = [
        [name, f"{s:.2f}", f"{ocrmypdf / s:.2f}", f"{s - alone_seconds:+.2f}"]
        for name, s in seconds.items()
    ]
    publish(
        "latency",
        "One page",
        f"The first page of {source.name}, warm service; medians of {ROUNDS} rounds.",
        table(["", "seconds", "times as fast", "seconds more than Tesseract alone"], rows),
    )


if __name__ == "__main__":
    main()
