"""A workflow over twenty pages: our two processes page by page, against `ocrd process`.

    python -m bench.workflow

Both run the same processors, installed apart (`scripts/setup --ocrd`), on the same pages, three
times in turns. What is measured is from the request until the last page is in METS.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import httpx

from bench.report import publish, table
from tests.conftest import DATA, Stack, running_stack, wait_until

PAGES, ROUNDS = 20, 3
BIN = Path(".venv-ocrd/bin").resolve()
STEPS = (
    "dummy -I OCR-D-IMG -O OCR-D-COPY",
    "tesserocr-recognize -I OCR-D-COPY -O OCR-D-OCR -P model deu -P segmentation_level region "
    "-P textequiv_level word",
)
DUMMY = ("dummy -I OCR-D-IMG -O OCR-D-COPY",)


def make(folder: Path) -> Path:
    """A workspace of twenty pages, the two of the test's one in turns."""
    shutil.copytree(DATA / "kant", folder)
    mets = folder / "mets.xml"
    pages, files = [], []
    for number in range(1, PAGES + 1):
        source = sorted((folder / "OCR-D-IMG").glob("*.tif"))[number % 2]
        (folder / "OCR-D-IMG" / f"P_{number:04d}.tif").hardlink_to(source)
        files.append(
            f'<mets:file ID="IMG_{number:04d}" MIMETYPE="image/tiff">'
            '<mets:FLocat LOCTYPE="OTHER" OTHERLOCTYPE="FILE" '
            f'xlink:href="OCR-D-IMG/P_{number:04d}.tif"/></mets:file>'
        )
        pages.append(
            f'<mets:div TYPE="page" ID="P_{number:04d}"><mets:fptr FILEID="IMG_{number:04d}"/>'
            "</mets:div>"
        )
    mets.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<mets:mets '
        'xmlns:mets="http://www.loc.gov/METS/" xmlns:xlink="http://www.w3.org/1999/xlink">'
        '<mets:metsHdr CREATEDATE="2026-01-01T00:00:00"/>'
        '<mets:dmdSec ID="D"><mets:mdWrap MDTYPE="MODS"><mets:xmlData>'
        '<mods:mods xmlns:mods="http://www.loc.gov/mods/v3">'
        '<mods:identifier type="purl">bench</mods:identifier></mods:mods>'
        "</mets:xmlData></mets:mdWrap></mets:dmdSec>"
        f'<mets:fileSec><mets:fileGrp USE="OCR-D-IMG">{"".join(files)}</mets:fileGrp>'
        '</mets:fileSec><mets:structMap TYPE="PHYSICAL"><mets:div TYPE="physSequence" ID="S">'
        f"{''.join(pages)}</mets:div></mets:structMap></mets:mets>\n"
    )
    return mets


def shell(mets: Path, steps: tuple[str, ...], environment: dict[str, str]) -> float:
    """Seconds that `ocrd process` takes."""
    begun = time.perf_counter()
    subprocess.run(
        [BIN / "ocrd", "process", "-m", mets, *steps],
        cwd=mets.parent,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begun


def ours(stack: Stack, mets: Path, steps: tuple[str, ...], page_wise: bool) -> float:
    """Seconds that the service takes."""
    begun = time.perf_counter()
    with httpx.Client(base_url=f"{stack.url}/ocrd", timeout=60) as http:
        query = {"mets_path": str(mets), "page_wise": str(page_wise)}
        text = "\n".join(steps).encode()
        answer = http.post("/workflow/run", params=query, files={"workflow": text})
        answer.raise_for_status()
        address = f"/workflow/job-simple/{answer.json()['job_id']}"

        def state() -> str | None:
            found = http.get(address).json()["state"]
            return found if found in ("SUCCESS", "FAILED") else None

        if wait_until(state, 600) != "SUCCESS":
            raise RuntimeError(http.get(address.replace("-simple", "")).text)
    return time.perf_counter() - begun


def main() -> None:
    tessdata = str(next(Path("/usr/share/tesseract-ocr").glob("*/tessdata")))
    processors = {"TESSDATA_PREFIX": tessdata, "OMP_THREAD_LIMIT": "1"}
    environment = os.environ | processors | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stack").mkdir()
        with running_stack(
            folder / "stack",
            OCR_PROCESSORS="ocrd-dummy,ocrd-tesserocr-recognize",
            OCR_OCRD_PATH=str(BIN),
            OCR_OCRD_FOLDERS=str(folder),
            OCR_WEB_PROCESSES="2",
            OCR_WORKER_PROCESSES="2",
            **processors,
        ) as stack:
            wait_until(lambda: len(httpx.get(f"{stack.url}/ocrd/processor").json()) == 2)
            for number in range(ROUNDS + 1):  # the first one warms both up, and does not count
                for what, steps in (("dummy", DUMMY), ("dummy + recognize", STEPS)):
                    for how in ("ocrd process", "in one go", "page-wise"):
                        mets = make(folder / f"{number}-{what}-{how}".replace(" ", "-"))
                        if how == "ocrd process":
                            seconds = shell(mets, steps, environment)
                        else:
                            seconds = ours(stack, mets, steps, how == "page-wise")
                        if number:
                            found.setdefault(f"{what}, {how}", []).append(seconds)
    medians = {label: statistics.median(seconds) for label, seconds in found.items()}
    rows = []
    for label, seconds in medians.items():
        by_hand = medians[f"{label.split(',')[0]}, ocrd process"]
        rows.append([label, f"{seconds:.2f}", f"{by_hand / seconds:.2f}"])
    publish(
        "workflow",
        f"A workflow over {PAGES} pages",
        table(["Steps, how", "Seconds (median)", "Times as fast as `ocrd process`"], rows),
    )


if __name__ == "__main__":
    main()
