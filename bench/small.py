"""Many one-page scans.

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
    """One-page documents of the pages of a document, in turn."""
    made = []
    with pikepdf.open(source) as pdf:
        for number in range(COUNT):
            with pikepdf.new() as single:
                single.pages.append(pdf.pages[number % len(pdf.pages)])
                made.append(folder / f"{number:02}.pdf")
                single.save(made[-1])
    return made


def serve(service: Service, scans: list[Path], language: str) -> None:
    """Sends all, as a client with a few connections does, and waits for the last one."""
    with ThreadPoolExecutor(4) as senders:
        jobs = list(senders.map(lambda scan: service.submit(scan, languages=language), scans))
    for job in jobs:
        ended = service.wait(job)
        if ended["state"] != "succeeded":
            raise RuntimeError(ended["error"])


def shell(scans: list[Path], language: str) -> None:
    """`ocrmypdf` under `xargs`, a process for each core."""
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
                "our service": lambda: serve(service, scans, language),
                "our service with OCR_GREY": lambda: serve(grey, scans, language),
                f"`xargs -P {CORES} ocrmypdf`": lambda: shell(scans, language),
            },
            ROUNDS,
        )
    publish(
        "small",
        "Many small documents",
        f"{COUNT} one-page scans from {source.name}, each sent by itself; medians of {ROUNDS} "
        "rounds.",
        table(["", "seconds", "ratio"], ratios(seconds, "our service")),
    )


if __name__ == "__main__":
    main()
