"""Implementation of `ocr-tasks ocr`: submits a document, waits, and downloads the results.

Starts a temporary server if no server responds.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from ocr_tasks.client import ApiError, Client, Option, TransferError
from ocr_tasks.commands import client_arguments
from ocr_tasks.commands.bars import bars, listener
from ocr_tasks.exits import FAILED, REFUSED, UNAVAILABLE, USAGE, report

_START_SECONDS = 90


def ocr(options: argparse.Namespace) -> int:
    """Runs OCR on the files of a command line as one document, and returns the exit code."""
    output = options.output or options.files[0].with_name(f"{options.files[0].stem}-ocr.pdf")
    try:
        _check_files(options.files, [output, *([options.text] if options.text else [])])
        fields = client_arguments.job_options(options)
    except ValueError as error:
        return report(str(error), USAGE)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _server(options.url) as client:
            return _process(client, options.files, fields, output, options.text)
    except ApiError as error:
        return report(f"{error} [{error.code}]", REFUSED)
    except (httpx.TransportError, TimeoutError) as error:
        return report(f"the server does not respond: {error}", UNAVAILABLE)
    except (OSError, TransferError) as error:
        return report(f"cannot write the result: {error}", FAILED)


def _check_files(files: list[Path], targets: list[Path]) -> None:
    """Raises ValueError if a file cannot be read, or a result cannot be written."""
    for file in files:
        if not file.is_file():
            raise ValueError(f"file not found: {file}")
        if not os.access(file, os.R_OK):
            raise ValueError(f"cannot read {file}")
    for target in targets:
        if target.is_dir():
            raise ValueError(f"{target} is a folder; name a file with -o or --text")
        if not os.access(target.parent, os.W_OK):
            advice = "choose another folder with -o or --text"
            raise ValueError(f"cannot write to {target.parent}; {advice}")
    if len({target.resolve() for target in targets}) < len(targets):
        raise ValueError("-o and --text must be different files")


def _process(
    client: Client,
    files: list[Path],
    fields: dict[str, Option],
    output: Path,
    text: Path | None,
) -> int:
    job = client.submit(*files, idempotency_key=None, **fields)
    try:
        with bars() as progress:
            job = client.wait(job, listener(progress, progress.add_task("waiting", total=100)))
    except KeyboardInterrupt:
        client.cancel(job)
        raise
    if job.error:
        return report(f"{job.error} [{job.error.code}]", FAILED)
    client.download(job, "pdf", output)
    if text:
        client.download(job, "text", text)
    for page in job.failed_pages:
        report(f"OCR failed on page {page.page}: {page.message}", 0)
    print(output)
    return 0


@contextmanager
def _server(url: str) -> Iterator[Client]:
    """Yields a client of the server at the URL, or of a temporary server if none responds."""
    with Client(url) as client:
        if client.alive():
            yield client
            return
    try:
        from ocr_tasks import settings  # not at the top, because a client may lack the server extra
    except ModuleNotFoundError:
        install = "pip install 'ocr-tasks[server]'"
        raise TimeoutError(f"{url}; to start a temporary server, run: {install}") from None
    with tempfile.TemporaryDirectory(prefix="ocr-tasks-") as folder:
        port = _free_port()
        log = Path(folder) / "log"
        private = settings.WHO_MAY | {"OCR_TOKEN"}
        environment = {
            **{name: value for name, value in os.environ.items() if name not in private},
            **{"OCR_DATA_DIR": f"{folder}/data", "OCR_REDIS_URL": "", "OCR_HOST": "127.0.0.1"},
            **{"OCR_PORT": str(port), "OCR_WEB_PROCESSES": "1", "OCR_REDIS_PASSWORD": ""},
            "OCR_PROCESSORS": "",
        }
        command = [sys.executable, "-m", "ocr_tasks.cli", "up"]
        with log.open("wb") as output:
            stack = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            with Client(f"http://127.0.0.1:{port}", token="") as client:
                _wait_until_ready(client, stack, log)
                yield client
        finally:
            stack.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                stack.wait(60)


def _wait_until_ready(client: Client, stack: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not client.ready():
        if stack.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(log.read_text(errors="replace")[-2000:].strip())
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
