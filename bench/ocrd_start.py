"""Run time of OCR-D processors, compared with starting their program as `ocrd process` does.

    python -m bench.ocrd_start

Both process the same workspace of two pages, in turn, each time with a new output file group.
OCR Tasks runs them as in a worker: the processor stays loaded, and the METS file is merged under a
lease.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.report import interleaved, publish, ratios, table
from ocr_tasks.ocrd import running, warm_pool
from tests.conftest import DATA, wait_until

ROOT = Path(__file__).parents[1]
ROUNDS = 15
TESSERACT = {"model": "deu", "segmentation_level": "region", "textequiv_level": "word"}

_numbers = itertools.count()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        socket = folder / "redis.sock"
        models = sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"))
        os.environ |= {
            "OCR_DATA_DIR": str(folder / "data"),
            "OCR_REDIS_URL": f"unix://{socket}",
            "OCR_OCRD_PATH": str(_processors()),
            "TESSDATA_PREFIX": str(models[-1]),
            "OMP_THREAD_LIMIT": "1",
        }
        shutil.copytree(DATA / "kant", folder / "kant")
        command = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
            wait_until(socket.exists)
            rows = _measure(folder)
            server.terminate()
    publish(
        "ocrd_start",
        "OCR-D processors",
        f"Medians of {ROUNDS} runs. `ocrd-dummy` copies two pages, `ocrd-tesserocr-recognize` runs "
        "OCR on one.",
        table(["", "seconds", "ratio"], rows),
    )


def _processors() -> Path:
    """Returns the folder of the processors' programs."""
    own = ROOT / ".venv-ocrd" / "bin"
    return own if own.exists() else Path(os.environ["OCR_OCRD_PATH"])


def _measure(folder: Path) -> list[list[object]]:
    rows = []
    for processor, page, parameters in (
        ("ocrd-dummy", "", {}),
        ("ocrd-tesserocr-recognize", "PHYS_0017", TESSERACT),
    ):
        case = (folder, processor, page, parameters)
        loaded, started = f"{processor}, OCR Tasks (stays loaded)", f"{processor}, its program"
        _run_loaded(*case)  # loads the processor
        seconds = interleaved(
            {loaded: partial(_run_loaded, *case), started: partial(_run_program, *case)}, ROUNDS
        )
        rows += ratios(seconds, loaded)
    warm_pool.close_all()
    return rows


def _run_loaded(folder: Path, processor: str, page: str, parameters: dict[str, Any]) -> None:
    number = next(_numbers)
    order = running.Order(
        executable=processor,
        mets=folder / "kant" / "mets.xml",
        key="bench",
        input_file_grps=("OCR-D-IMG",),
        output_file_grps=(f"OUT-{number}",),
        pages=[page] if page else None,
        parameters=parameters,
        run_id=f"run-{number}",
    )
    running.run(order, folder / "log.txt")


def _run_program(folder: Path, processor: str, page: str, parameters: dict[str, Any]) -> None:
    command: list[str] = [str(_processors() / processor), "-w", str(folder / "kant")]
    command += ["-I", "OCR-D-IMG", "-O", f"OUT-{next(_numbers)}", *(["-g", page] if page else [])]
    for name, value in parameters.items():
        command += ["-P", name, value]
    with (folder / "program.log").open("ab") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)


if __name__ == "__main__":
    main()
