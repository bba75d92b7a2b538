"""A one-page scan.

python -m bench.latency [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.floor import Floor, images
from bench.report import interleaved, publish, table
from bench.service import document, repeated, warm
from bench.throughput import stock

ROUNDS = 7


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language) as service,
        warm(source, language, OCR_GREY="true") as grey,
        Floor(language, 1) as floor,
    ):
        folder = Path(name)
        page = repeated(source, folder / "page.pdf", 1)
        pages = images(page, folder)
        floor.read(pages)
        seconds = interleaved(
            {
                "our service, submit to result": lambda: service.read(page, languages=language),
                "our service with OCR_GREY": lambda: grey.read(page, languages=language),
                "`ocrmypdf` from the shell": lambda: stock(page, folder / "out.pdf", language),
                "the floor: Tesseract alone": lambda: floor.read(pages),
            },
            ROUNDS,
        )
    *_, shell, least = seconds.values()
    rows = [
        [name, f"{s:.2f}", f"{shell / s:.2f} times", f"{s - least:+.2f}"]
        for name, s in seconds.items()
    ]
    publish(
        "latency",
        "One page",
        f"The first page of {source.name}, warm service; medians of {ROUNDS} rounds.",
        table(["", "seconds", "as fast as the shell", "over the floor"], rows),
    )


if __name__ == "__main__":
    main()
