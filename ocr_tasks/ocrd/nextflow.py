"""Nextflow scripts, the workflows of older versions of OCR-D's Web API.

A script can run any command with the rights of the worker. Only workers that are configured to
offer the processor `nextflow` run scripts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.model import NEXTFLOW

#: The description of the processor, in the format of ocrd-tool.json.
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
    """Returns the path of the program, or None if it is not installed."""
    folders = [*filter(None, ocrd_settings.get().ocrd_path.split(":")), os.environ.get("PATH", "")]
    return shutil.which(NEXTFLOW, path=os.pathsep.join(folders))


def run(script: str, mets: Path, folder: Path, log: Path) -> None:
    """Runs a script with the METS file as `--mets`, and appends its output to `log`.

    `folder` is for work files. Raises ocrd_errors.ProcessorFailed unless the exit status is 0.
    """
    found = program()
    if found is None:
        raise ocrd_errors.ProcessorFailed("nextflow is no longer installed on this worker")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "workflow.nf"
    file.write_text(script)
    command = [found, "-q", "run", str(file), "-ansi-log", "false", "-work-dir", str(folder)]
    command += ["--mets", str(mets), "--workspace_dir", str(mets.parent)]
    environment = os.environ | {"NXF_HOME": str(folder / "home"), "NXF_OFFLINE": "true"}
    with log.open("ab") as output:
        status = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        raise ocrd_errors.ProcessorFailed(f"nextflow exited with status {status}")
