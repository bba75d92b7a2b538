"""Nextflow scripts, the workflows of older versions of OCR-D's Web API.

A script can run any command with the rights of the worker. Only workers that are configured to
offer the processor `nextflow` run scripts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ocr_tasks import errors, settings
from ocr_tasks.model import Scope
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import programs
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.model import NEXTFLOW, ProcessorJob
from ocr_tasks.redis import connection, keys
from ocr_tasks.security import tokens

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
        "parameters": {"type": "object", "description": "Parameters of the script"},
    },
}

#: Environment variables of Nextflow and Java. Other processors do not get them: they may contain
#: secrets.
_PREFIXES = ("NXF_", "JAVA_")


def program() -> str | None:
    """Returns the path of the program, or None if it is not installed."""
    folders = [*filter(None, ocrd_settings.get().ocrd_path.split(":")), os.environ.get("PATH", "")]
    return shutil.which(NEXTFLOW, path=os.pathsep.join(folders))


def home() -> Path:
    """Returns the path of the folder with Nextflow's runtime and plugins."""
    return programs.home() / ".nextflow"


def server_url() -> str:
    """Returns the URL of the server that scripts use."""
    config = settings.get()
    # A server that listens on all IP addresses also listens on loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
    local = f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"
    return ocrd_settings.get().ocrd_server_url or local


def server_port() -> int:
    """Returns the TCP port of `server_url`."""
    url = urlsplit(server_url())
    return url.port or (443 if url.scheme == "https" else 80)


def run(job: ProcessorJob, folder: Path, log: Path) -> None:
    """Runs the script of a job, and appends its output to `log`.

    `folder` is for work files. Raises ocrd_errors.ProcessorFailed unless the exit status is 0.
    """
    found = program()
    if found is None:
        raise ocrd_errors.ProcessorFailed("nextflow is no longer installed on this worker")
    folder.mkdir(parents=True, exist_ok=True)
    with _token(job) as token, log.open("ab") as output:
        status = subprocess.run(
            _command(found, job, token, folder),
            cwd=folder,
            env=_environment(token, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status:
        raise ocrd_errors.ProcessorFailed(f"nextflow exited with status {status}")


@contextmanager
def _token(job: ProcessorJob) -> Iterator[str]:
    """Yields a token with which the script acts for the owner of the job; '' if there is none.

    It is revoked when the job is no longer running, even if this process is killed.
    """
    if not job.owner:
        yield ""
        return
    token = tokens.create_temporary(job.owner, [Scope.OCRD], settings.get().job_seconds)
    try:
        with connection.translated_errors():
            connection.client().hset(keys.task(job.id), "secret", tokens.temporary_key(token))
        yield token
    finally:
        with suppress(errors.ServiceError):  # it expires soon
            tokens.revoke_temporary(token)


def _command(found: str, job: ProcessorJob, token: str, folder: Path) -> list[str]:
    """Writes the script and its parameters to `folder`, and returns the command that runs it."""
    script, parameters = folder / "workflow.nf", folder / "parameters.json"
    script.write_text(str(job.run.parameters["script"]))
    # Everybody on this machine can read command lines, so the token is only in the file.
    parameters.touch(mode=0o600)
    parameters.write_text(json.dumps(job.run.parameters.get("parameters", {}) | {"token": token}))
    command = [found, "-q", "run", str(script), "-ansi-log", "false", "-work-dir", str(folder)]
    command += ["-params-file", str(parameters)]
    for name, value in _own_parameters(job).items():
        command += [f"--{name}", value]
    return command


def _own_parameters(job: ProcessorJob) -> dict[str, str]:
    """Returns the parameters that the server sets, with their names in OCR-D's scripts."""
    url = f"{server_url()}/ocrd"
    mets = str(job.path_to_mets)
    scheme, _, address = url.partition("://")
    parameters = {
        "processing_server_url": url,
        "mets": mets,
        "mets_path": mets,
        "workspace_dir": str(job.path_to_mets.parent),
    }
    if scheme == "http":  # OCR-D's scripts add `http://`, and would send the token unencrypted
        parameters["processing_server_address"] = address
    return parameters | ({"workspace_id": job.workspace_id} if job.workspace_id else {})


def _environment(token: str, folder: Path) -> dict[str, str]:
    """Returns the environment of Nextflow. Its home is kept, because it contains its runtime."""
    own = {
        "NXF_HOME": str(home()),
        "TMPDIR": str(folder),
        "OCR_URL": server_url(),
        "OCR_TOKEN": token,
    }
    return {"NXF_OFFLINE": "true"} | allowed(os.environ) | programs.environment(**own)


def allowed(variables: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that Nextflow may see, in addition to all processors."""
    return {name: value for name, value in variables.items() if name.startswith(_PREFIXES)}
