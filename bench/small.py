"""Throughput of many one-page scans.

python -m bench.small [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pikepdf

from bench.report import interleaved, publish, ratios, table
from bench.service import Service, document, warm
from bench.throughput import CORES

ROUNDS = 2
COUNT = 40


def split(source: Path, folder: Path) -> list[Path]:
    """Writes one-page documents with the pages of a document, and returns their paths."""
    paths = []
    with pikepdf.open(source) as pdf:
        for number in range(COUNT):
            with pikepdf.new() as single:
                single.pages.append(pdf.pages[number % len(pdf.pages)])
                paths.append(folder / f"{number:02}.pdf")
                single.save(paths[-1])
    return paths


def serve(service: Service, scans: list[Path], language: str) -> None:
    """Submits all scans over four connections, and waits until all jobs have succeeded."""
    with ThreadPoolExecutor(4) as senders:
        jobs = list(senders.map(lambda scan: service.submit(scan, languages=language), scans))
    for job in jobs:
        ended = service.wait(job)
        if ended["state"] != "succeeded":
            raise RuntimeError(ended["error"])


def shell(scans: list[Path], language: str) -> None:
    """Runs `ocrmypdf` with `xargs`, one process per core."""
    command = ["xargs", "-P", str(CORES), "-I{}", sys.executable, "-m", "ocrmypdf", "-q", "-j", "1"]
    names = "\n".join(str(scan) for scan in scans)
    subprocess.run(
        [*command, "-l", language, "{}", "{}.out.pdf"], input=names, text=True, check=True
    )


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language) as service,
        warm(source, language, OCR_GREY="true") as grey,
    ):
        scans = split(source, Path(name))
        seconds = interleaved(
            {
                "OCR Tasks": lambda: serve(service, scans, language),
                "OCR Tasks with `OCR_GREY`": lambda: serve(grey, scans, language),
                f"`xargs -P {CORES} ocrmypdf`": lambda: shell(scans, language),
            },
            ROUNDS,
        )
    publish(
        "small",
        "Many small documents",
        f"{COUNT} one-page scans from {source.name}, one request each; medians of {ROUNDS} rounds.",
        table(["", "seconds", "ratio"], ratios(seconds, "OCR Tasks")),
    )


if __name__ == "__main__":
    main()
