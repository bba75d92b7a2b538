"""PDF/A without Ghostscript: which documents cannot be converted, and the size of the others.

python -m bench.pdfa FOLDER…    (folders of PDFs; OCR is skipped, because it does not matter here)
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
_NO_OCR = ["--ocr-engine", "none", "--skip-text"]


def without_ghostscript(folder: Path) -> dict[str, str]:
    """Returns an environment whose PATH contains OCRmyPDF's programs except Ghostscript."""
    for name in ("tesseract", "unpaper", "pngquant"):
        program = shutil.which(name)
        assert program, f"{name} is not installed"
        (folder / name).symlink_to(program)
    return os.environ | {"PATH": str(folder)}


def convert(source: Path, target: Path, environment: dict[str, str]) -> tuple[str, int, float]:
    """Converts a PDF. Returns the kind of the resulting PDF, its size in bytes, and the seconds."""
    started = time.monotonic()
    command = [*_OCRMYPDF, *_NO_OCR, str(source), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode not in (0, 10) or not target.exists():
        return f"fails ({done.returncode})", 0, seconds
    with pikepdf.open(target) as pdf, pdf.open_metadata() as metadata:
        kind = f"PDF/A-{metadata.pdfa_status}" if metadata.pdfa_status else "PDF"
    return kind, target.stat().st_size, seconds


def main() -> None:
    sources = sorted({path for name in sys.argv[1:] for path in Path(name).glob("*.pdf")})
    assert sources, "usage: python -m bench.pdfa FOLDER..."
    rows, kinds, seconds, sizes = [], {"with": 0, "without": 0}, [0.0, 0.0], [0, 0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bin").mkdir()
        environment = without_ghostscript(folder / "bin")
        for source in sources:
            with_it = convert(source, folder / "with.pdf", dict(os.environ))
            without = convert(source, folder / "without.pdf", environment)
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
        f"Of {len(sources)} PDFs, {kinds['with']} became PDF/A with Ghostscript and "
        f"{kinds['without']} without it. OCR was skipped. Without Ghostscript, all PDFs together "
        f"took {seconds[1] / seconds[0]:.2f} × as long and became "
        f"{sizes[1] / max(1, sizes[0]):.2f} × as large. Documents with different results:",
        table(["document", "with Ghostscript", "without"], rows),
    )


if __name__ == "__main__":
    main()
