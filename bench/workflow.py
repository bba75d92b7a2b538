"""An OCR-D workflow of twenty pages with two worker processes, compared with `ocrd process`.

    python -m bench.workflow

Both run the same processors (`scripts/setup --ocrd`) on the same pages, three times in turn. The
time is from the request until the last page is in METS.
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
    """Creates a workspace of twenty pages, which alternate between the two of the tests' workspace.

    Returns the path of its METS file.
    """
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
    """Returns the seconds that `ocrd process` takes."""
    started = time.perf_counter()
    subprocess.run(
        [BIN / "ocrd", "process", "-m", mets, *steps],
        cwd=mets.parent,
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


def ours(stack: Stack, mets: Path, steps: tuple[str, ...], page_wise: bool) -> float:
    """Returns the seconds that OCR Tasks takes."""
    started = time.perf_counter()
    with httpx.Client(base_url=f"{stack.url}/ocrd", timeout=60) as http:
        query = {"mets_path": str(mets), "page_wise": str(page_wise)}
        text = "\n".join(steps).encode()
        response = http.post("/workflow/run", params=query, files={"workflow": text})
        response.raise_for_status()
        path = f"/workflow/job-simple/{response.json()['job_id']}"

        def final_state() -> str | None:
            state: str = http.get(path).json()["state"]
            return state if state in ("SUCCESS", "FAILED") else None

        if wait_until(final_state, 600) != "SUCCESS":
            raise RuntimeError(http.get(path.replace("-simple", "")).text)
    return time.perf_counter() - started


def main() -> None:
    tessdata = str(next(Path("/usr/share/tesseract-ocr").glob("*/tessdata")))
    processors = {"TESSDATA_PREFIX": tessdata, "OMP_THREAD_LIMIT": "1"}
    environment = os.environ | processors | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    results: dict[str, list[float]] = {}
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
            for number in range(ROUNDS + 1):  # the first round warms up and is not counted
                for workflow, steps in (("dummy", DUMMY), ("dummy + recognize", STEPS)):
                    for method in ("ocrd process", "all pages", "page-wise"):
                        mets = make(folder / f"{number}-{workflow}-{method}".replace(" ", "-"))
                        if method == "ocrd process":
                            seconds = shell(mets, steps, environment)
                        else:
                            seconds = ours(stack, mets, steps, method == "page-wise")
                        if number:
                            results.setdefault(f"{workflow}, {method}", []).append(seconds)
    medians = {label: statistics.median(seconds) for label, seconds in results.items()}
    rows = []
    for label, seconds in medians.items():
        ocrd_process = medians[f"{label.split(',')[0]}, ocrd process"]
        rows.append([label, f"{seconds:.2f}", f"{ocrd_process / seconds:.2f}"])
    publish(
        "workflow",
        "OCR-D workflow",
        f"{PAGES} pages, medians of {ROUNDS} rounds. OCR Tasks runs each step for all pages at "
        "once, or page-wise on two worker processes.",
        table(["steps, method", "seconds", "times as fast"], rows),
    )


if __name__ == "__main__":
    main()
