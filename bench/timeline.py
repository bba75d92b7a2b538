"""Draws how long each stage of a job takes, as bench/timeline.svg.

    python -m bench.timeline LABEL

Adds the stages of a document of 20 pages and of one of 200 to `timeline.json` under LABEL, e.g. the
name of a change, and draws all of them. A label that is already there is replaced.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

from bench.report import machine
from bench.service import document, repeated, warm

PAGES = (20, 200)
STAGES = {
    "queued": "#9aa0a6",
    "scanning": "#4e79a7",
    "ocr": "#59a14f",
    "assembling": "#edc948",
    "optimizing": "#f28e2b",
    "storing": "#e15759",
}
DATA, PICTURE = Path(__file__).with_name("timeline.json"), Path(__file__).with_name("timeline.svg")

#: Sizes in pixels.
LEFT, WIDTH, ROW, BAR, FONT = 220, 900, 34, 22, 13

#: Stages shorter than this many pixels have no label.
LABEL_WIDTH = 34

#: The seconds of each stage, by label and number of pages.
Rows = dict[str, dict[str, dict[str, float]]]


def measure() -> dict[str, dict[str, float]]:
    """Returns the seconds of each stage of a job, by its number of pages."""
    source, language = document(arguments=[])
    seconds = {}
    with tempfile.TemporaryDirectory() as name, warm(source, language) as service:
        for pages in PAGES:
            path = repeated(source, Path(name) / f"{pages}.pdf", pages)
            job = service.process(path, languages=language)
            seconds[str(pages)] = {stage: job["seconds"].get(stage, 0) for stage in STAGES}
    return seconds


def draw(rows: Rows) -> str:
    """Returns an SVG image with one bar per label and number of pages."""
    parts, y = [], FONT * 2
    for pages in map(str, PAGES):
        shown = {label: row[pages] for label, row in rows.items() if pages in row}
        longest = max((sum(row.values()) for row in shown.values()), default=1)
        parts.append(_text(0, y, f"{pages} pages", bold=True))
        y += FONT
        for label, row in shown.items():
            parts += _bar(label, row, y, WIDTH / longest)
            y += ROW
        y += ROW
    parts += _legend(y)
    width, height = LEFT + WIDTH + 80, y + FONT * 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="{FONT}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(label: str, row: dict[str, float], y: float, scale: float) -> list[str]:
    """Returns a bar of the stages. `scale` is the number of pixels per second."""
    parts, x = [_text(0, y + BAR - 6, label)], float(LEFT)
    for stage, color in STAGES.items():
        width = row[stage] * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}">'
            f"<title>{stage}: {row[stage]:.2f} s</title></rect>"
        )
        if width >= LABEL_WIDTH:
            parts.append(_text(x + 4, y + BAR - 6, f"{row[stage]:.2f}"))
        x += width
    return [*parts, _text(x + 6, y + BAR - 6, f"{sum(row.values()):.2f} s")]


def _legend(y: float) -> list[str]:
    parts = []
    for number, (stage, color) in enumerate(STAGES.items()):
        x = LEFT + number * 120
        parts.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{color}"/>')
        parts.append(_text(x + 18, y, stage))
    return parts


def _text(x: float, y: float, text: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{weight}>{escape(text)}</text>'


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.timeline LABEL")
    rows: Rows = json.loads(DATA.read_text())["rows"] if DATA.exists() else {}
    rows[sys.argv[1]] = measure()
    DATA.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    PICTURE.write_text(draw(rows))
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
