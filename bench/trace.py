"""Where the time of a one-page document goes, from the request to the result.

python -m bench.trace [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.report import publish, table
from bench.service import FINAL, Service, document, repeated, warm

ROUNDS = 15
_STEP = re.compile(r"trace (\S+) ([\d.]+) ([\d.]+)")

#: Steps inside others, which are indented in the table.
INNER = {
    "run OCRmyPDF": 1, "scan": 2, "process the page": 2, "render": 3, "Tesseract": 3,
    "preview": 3, "store the page": 3, "draw the text layer": 2, "assemble": 2,
    "prepare PDF/A": 2, "metadata": 2, "optimize": 2, "validate PDF/A": 2, "check": 2,
    "compare with the input": 1, "store the PDF": 1,
}  # fmt: skip


def seconds_of(stamp: str) -> float:
    """Returns a time stamp of the API in seconds since 1970."""
    return datetime.fromisoformat(stamp).timestamp()


def measure(service: Service, page: Path, language: str) -> dict[str, float]:
    """Returns the seconds of each step of one document."""
    log = service.stack.log
    offset = log.stat().st_size
    started = time.time()
    job: dict[str, Any] = service.submit(page, languages=language)
    accepted = time.time()
    job = service.wait(job)
    ended = time.time()
    assert job["state"] in FINAL
    steps: dict[str, float] = {}
    starts: dict[str, float] = {}
    with log.open("rb") as lines:
        lines.seek(offset)
        for name, start, taken in _STEP.findall(lines.read().decode()):
            step = name.replace("_", " ")
            steps[step] = steps.get(step, 0) + float(taken)
            starts.setdefault(step, float(start))
    created = seconds_of(job["created_at"])
    steps = {step: steps[step] for step in sorted(steps, key=starts.__getitem__)}
    return {
        "total": ended - started,
        "request until the job exists": created - started,
        "rest of the request": accepted - created,
        "job exists until the run begins": starts["run"] - created,
        **steps,
        "run ends until the client knows": ended - starts["run"] - steps["run"],
    }


def main() -> None:
    source, language = document()
    with (
        tempfile.TemporaryDirectory() as name,
        warm(source, language, OCR_PLUGINS="bench.plugins.trace") as service,
    ):
        page = repeated(source, Path(name) / "page.pdf", 1)
        rounds = [measure(service, page, language) for _ in range(ROUNDS)]
    rows = []
    for step in rounds[0]:
        median = statistics.median(one.get(step, 0) for one in rounds)
        rows.append(["&nbsp;" * 4 * INNER.get(step, 0) + step, f"{1000 * median:.1f}"])
    publish(
        "trace",
        "Where the time of one page goes",
        f"The first page of {source.name}, warm service; medians of {ROUNDS} rounds. Indented "
        "steps are parts of the one above.",
        table(["step", "ms"], rows),
    )


if __name__ == "__main__":
    main()
