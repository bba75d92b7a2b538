"""Nextflow scripts, which older texts of OCR-D's Web API have for workflows.

Such a script runs whatever its author likes, as whoever runs the worker. So there is a worker for
them only where the operator names `nextflow` among its processors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings
from ocr_tasks.ocrd.model import NEXTFLOW

#: In the place of ocrd-tool.json.
TOOL: dict[str, Any] = {
    "executable": NEXTFLOW,
    "description": "Runs workflows that are Nextflow scripts",
    "steps": [],
    "categories": [],
    "input_file_grp_cardinality": [0, -1],
    "output_file_grp_cardinality": [0, -1],
    "parameters": {
        "script": {"type": "string", "description": "The script", "required": True},
    },
}


def program() -> str | None:
    """Where the program is, if it is here."""
    folders = [*filter(None, settings.get().ocrd_path.split(":")), os.environ.get("PATH", "")]
    return shutil.which(NEXTFLOW, path=os.pathsep.join(folders))


def run(script: str, mets: Path, folder: Path, log: Path) -> None:
    """Runs a script with the METS file as `--mets`, in a folder of its own for work files."""
    found = program()
    if found is None:
        raise errors.ProcessorFailed("nextflow is no longer installed on this worker")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "workflow.nf"
    file.write_text(script)
    command = [found, "-q", "run", str(file), "-ansi-log", "false", "-work-dir", str(folder)]
    command += ["--mets", str(mets), "--workspace_dir", str(mets.parent)]
    environment = os.environ | {"NXF_HOME": str(folder / "home"), "NXF_OFFLINE": "true"}
    with log.open("ab") as words:
        status = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        raise errors.ProcessorFailed(f"nextflow exited with status {status}")
