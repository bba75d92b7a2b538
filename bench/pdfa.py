"""What PDF/A is made without Ghostscript: which documents are lost, and the size of the others.

python -m bench.pdfa FOLDER…    folders of PDFs; pages are not read, as that changes nothing here
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pikepdf

from bench.report import publish, table

_OCRMYPDF = [sys.executable, "-m", "ocrmypdf", "--quiet", "--output-type", "auto"]
_UNREAD = ["--ocr-engine", "none", "--skip-text"]


def without_ghostscript(folder: Path) -> dict[str, str]:
    """An environment whose PATH has what OCRmyPDF uses but for Ghostscript."""
    for name in ("tesseract", "unpaper", "pngquant"):
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (folder / name).symlink_to(found)
    return os.environ | {"PATH": str(folder)}


def convert(source: Path, target: Path, environment: dict[str, str]) -> tuple[str, int, float]:
    """The kind of PDF that comes out, its bytes, and seconds."""
    started = time.monotonic()
    command = [*_OCRMYPDF, *_UNREAD, str(source), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode not in (0, 10) or not target.exists():
        return f"fails ({done.returncode})", 0, seconds
    with pikepdf.open(target) as pdf, pdf.open_metadata() as metadata:
        kind = f"PDF/A-{metadata.pdfa_status}" if metadata.pdfa_status else "PDF"
    return kind, target.stat().st_size, seconds


def main() -> None:
    sources = sorted({path for name in sys.argv[1:] for path in Path(name).glob("*.pdf")})
    assert sources, "give folders of PDFs"
    rows, kinds, seconds, sizes = [], {"with": 0, "without": 0}, [0.0, 0.0], [0, 0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        bare = without_ghostscript(folder / "bin")
        for source in sources:
            with_it = convert(source, folder / "with.pdf", dict(os.environ))
            without = convert(source, folder / "without.pdf", bare)
            for path in (folder / "with.pdf", folder / "without.pdf"):
                path.unlink(missing_ok=True)
            kinds["with"] += with_it[0].startswith("PDF/A")
            kinds["without"] += without[0].startswith("PDF/A")
            for number, row in enumerate((with_it, without)):
                sizes[number] += row[1]
                seconds[number] += row[2]
            if with_it[0] != without[0]:
                rows.append([source.name, with_it[0], without[0]])
            print(f"  {source.name}: {with_it} {without}", flush=True)
    publish(
        "pdfa",
        "PDF/A without Ghostscript",
        f"{len(sources)} PDFs, not read, only made PDF/A: {kinds['with']} with Ghostscript, "
        f"{kinds['without']} without it. All together {seconds[1] / seconds[0]:.2f} × as long and "
        f"{sizes[1] / max(1, sizes[0]):.2f} × as large without it. Those that differ:",
        table(["document", "with", "without"], rows),
    )


if __name__ == "__main__":
    main()
