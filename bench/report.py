"""Runs competitors side by side, and writes the results to RESULTS.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from ocr_tasks.plugin import engine

RESULTS = Path(__file__).parent / "RESULTS.md"


def interleaved(competitors: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each competitor.

    Each round runs all competitors, in an order that rotates from round to round.
    """
    names = list(competitors)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.monotonic()
            competitors[name]()
            seconds[name].append(time.monotonic() - started)
            print(f"  round {number + 1}: {name}: {seconds[name][-1]:.2f} s", flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def ratios(seconds: Mapping[str, float], of: str) -> list[list[object]]:
    """Returns table rows: name, seconds, and the ratio to the seconds of the competitor `of`."""
    return [[name, f"{s:.2f}", f"{s / seconds[of]:.2f}"] for name, s in seconds.items()]


def machine() -> str:
    """Returns the machine and the versions of programs on one line."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    versions = f"Python {platform.python_version()}, Tesseract {engine.version()}, "
    versions += f"OCRmyPDF {version('ocrmypdf')}, Celery {version('celery')}"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {cpu}, {memory:.0f} GiB, {system}; {versions}"


def publish(name: str, title: str, *paragraphs: str) -> None:
    """Prints a section and writes it to RESULTS.md, where it replaces the one of the same name."""
    day = time.strftime("%Y-%m-%d")
    source = f"`python -m bench.{name}`, {day}. {machine()}."
    body = "\n\n".join([f"## {title}", *paragraphs, source])
    print(f"\n{body}\n")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{body}\n{end}"
    text = RESULTS.read_text() if RESULTS.exists() else "# Benchmark results\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    RESULTS.write_text(text)
