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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import httpx

from ocr_tasks.client import ApiError, Client, Option, TransferError, environment
from ocr_tasks.commands import client_arguments
from ocr_tasks.commands.bars import bars, listener
from ocr_tasks.commands.interruptions import Interruptions
from ocr_tasks.exits import FAILED, REFUSED, UNAVAILABLE, USAGE, report

_START_SECONDS = 90

#: Standard input or output.
_STANDARD = Path("-")


def ocr(options: argparse.Namespace) -> int:
    """Runs OCR on the files of a command line as one document, and returns the exit code."""
    try:
        files, output = _split(options.files, options.output)
        _check_documents(files)
        _check_targets([output, *([options.text] if options.text else [])], options.force)
        fields = client_arguments.job_options(options)
    except ValueError as error:
        return report(str(error), USAGE)
    interruptions = Interruptions()
    try:
        with _server(options.url or environment.configured_url()) as client:
            return _process(client, interruptions, files, fields, output, options.text)
    except ApiError as error:
        return report(f"{error} [{error.code}]", REFUSED)
    except (httpx.TransportError, TimeoutError) as error:
        return report(f"the server does not respond: {error}", UNAVAILABLE)
    except (OSError, TransferError) as error:
        return report(f"cannot write the result: {error}", FAILED)


def _split(files: list[Path], output: Path | None) -> tuple[list[Path], Path]:
    """Returns documents and output. Raises ValueError if it is unclear what a file is."""
    if output:
        return files, output
    if len(files) > 2:
        raise ValueError("name the PDF to write with -o")
    *documents, last = files
    if documents:
        return documents, last
    if last == _STANDARD:
        return files, _STANDARD
    return files, last.with_name(f"{last.stem}-ocr.pdf")


def _check_documents(files: list[Path]) -> None:
    """Raises ValueError if a document cannot be read."""
    if files.count(_STANDARD) > 1:
        raise ValueError("only one document can be read from standard input")
    for file in files:
        if file == _STANDARD:
            continue
        if not file.is_file():
            raise ValueError(f"file not found: {file}")
        if not os.access(file, os.R_OK):
            raise ValueError(f"cannot read {file}")


def _check_targets(targets: list[Path], force: bool) -> None:
    """Raises ValueError if a result cannot be written, or exists and must not be replaced."""
    for target in targets:
        if target == _STANDARD:
            continue
        if target.is_dir():
            raise ValueError(f"{target} is a folder; name a file with -o or --text")
        if target.exists() and not force:
            raise ValueError(f"{target} exists; use --force to replace it")
        if not os.access(target.parent, os.W_OK):
            advice = "choose another folder with -o or --text"
            raise ValueError(f"cannot write to {target.parent}; {advice}")
    if len({target.resolve() for target in targets}) < len(targets):
        raise ValueError("-o and --text must be different files")


def _process(
    client: Client,
    interruptions: Interruptions,
    files: list[Path],
    fields: dict[str, Option],
    output: Path,
    text: Path | None,
) -> int:
    with ExitStack() as stack:
        opened = [_open(file, stack) for file in files]
        opened[-1] = interruptions.delay_after(opened[-1])
        named = [(_name(file), content) for file, content in zip(files, opened, strict=True)]
        job = client.submit(*named, idempotency_key=None, **fields)
    try:
        interruptions.stop_delaying()
        with bars() as progress:
            job = client.wait(job, listener(progress, progress.add_task("waiting", total=100)))
    except KeyboardInterrupt:
        client.patience = 0
        with suppress(ApiError, httpx.TransportError):  # the server may have been stopped as well
            client.cancel(job)
        raise
    if job.error:
        return report(f"{job.error} [{job.error.code}]", FAILED)
    for artifact, target in (("pdf", output), ("text", text)):
        if target:
            to_stdout = target == _STANDARD
            client.download(job, artifact, sys.stdout.buffer if to_stdout else target)
    for page in job.failed_pages:
        report(f"OCR failed on page {page.page}: {page.message}", 0)
    if _STANDARD not in (output, text):
        print(output)
    return 0


def _open(file: Path, stack: ExitStack) -> BinaryIO:
    return sys.stdin.buffer if file == _STANDARD else stack.enter_context(file.open("rb"))


def _name(file: Path) -> str:
    return "document" if file == _STANDARD else file.name


@contextmanager
def _server(url: str | None) -> Iterator[Client]:
    """Yields a client of the server at the URL.

    Without a URL, it is the server on this machine, or a temporary server if none responds.
    """
    with Client(url or environment.url()) as client:
        if client.alive():
            yield client
            return
        if url:
            raise TimeoutError(url)
    try:
        from ocr_tasks import settings  # not at the top, because a client may lack the server extra
    except ModuleNotFoundError:
        install = "pip install 'ocr-tasks[server]'"
        raise TimeoutError(f"to start a temporary server, run: {install}") from None
    with tempfile.TemporaryDirectory(prefix="ocr-tasks-") as folder:
        port = _free_port()
        log = Path(folder) / "log"
        private = settings.WHO_MAY | {"OCR_TOKEN"}
        variables = {
            **{name: value for name, value in os.environ.items() if name not in private},
            **{"OCR_DATA_DIR": f"{folder}/data", "OCR_REDIS_URL": "", "OCR_HOST": "127.0.0.1"},
            **{"OCR_PORT": str(port), "OCR_WEB_PROCESSES": "1", "OCR_REDIS_PASSWORD": ""},
            "OCR_PROCESSORS": "",
        }
        command = [sys.executable, "-m", "ocr_tasks.cli", "up"]
        with log.open("wb") as output:
            # In its own session, so that an interruption reaches it only after the cancellation.
            stack = subprocess.Popen(
                command, env=variables, stdout=output, stderr=output, start_new_session=True
            )
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
