"""`ocr-tasks submit`: runs OCR on many documents, and resumes after an interruption."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import httpx
from rich.progress import Progress

from ocr_tasks.client import AsyncClient, Job, Option
from ocr_tasks.commands import client_arguments
from ocr_tasks.commands.bars import bars, listener
from ocr_tasks.exits import (
    FAILED,
    INTERRUPTED,
    REFUSED,
    UNAVAILABLE,
    USAGE,
    report,
)
from ocr_tasks.folders import batch, documents
from ocr_tasks.folders.document_processor import DocumentProcessor, Result
from ocr_tasks.folders.documents import Document
from ocr_tasks.folders.ledger import FOLDER, Ledger

#: Seconds for which requests are retried while the server is unavailable or its queue is full.
_RETRY_SECONDS = 300


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `submit`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="documents, or folders with --recursive"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for results; progress is recorded in its subfolder .ocr-tasks",
    )
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="process folders and their subfolders; results keep the folder structure",
    )
    client_arguments.add_results(parser)
    client_arguments.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    ledger = Ledger(options.output / FOLDER)
    try:
        fields = client_arguments.job_options(options)
        artifacts = client_arguments.artifacts(options)
        selected = list(_select(options, ledger))
    except ValueError as error:
        return report(str(error), USAGE)
    except OSError as error:
        return report(f"{error.filename} cannot be read: {error.strerror}", USAGE)
    if reason := client_arguments.output_error(options.output):
        return report(reason, USAGE)
    try:
        done = asyncio.run(_process(options, selected, ledger, fields, artifacts))
    except ConnectionError as error:
        return report(str(error), UNAVAILABLE)
    except KeyboardInterrupt:
        text = "interrupted; run the same command to resume (submitted jobs continue on the server)"
        return report(text, INTERRUPTED)
    return _summarize(done, len(selected))


def _select(options: argparse.Namespace, ledger: Ledger) -> Iterator[Document]:
    """Yields the documents of a command line without duplicates and earlier results."""
    out = options.output.resolve()
    results = {out / row for entry in ledger.all() for row in entry.results}
    seen: set[Path] = set()
    for path in options.files:
        if path.is_dir():
            if not options.recursive:
                raise ValueError(f"{path} is a folder; use --recursive to process its documents")
            rows = documents.walk(path, {out}, lambda error: report(str(error), 0))
        elif path.is_file():
            rows = iter([Document(path, PurePath(path.name))])
        else:
            raise ValueError(f"file not found: {path}")
        for row in rows:
            real = row.path.resolve()
            if real not in seen and real not in results:
                seen.add(real)
                yield row


async def _process(
    options: argparse.Namespace,
    selected: list[Document],
    ledger: Ledger,
    fields: dict[str, Option],
    artifacts: list[str],
) -> batch.Batch:
    async with AsyncClient(options.url, patience=_RETRY_SECONDS) as client:
        if not await client.alive():  # retrying is for a server that becomes unavailable later
            raise ConnectionError(f"no OCR Tasks server responds at {options.url}")
        processor = DocumentProcessor(client, options.output, ledger, fields, artifacts)
        with bars() as progress:
            return await batch.run(
                processor, selected, options.jobs, _show_bar(progress), _print_result
            )


def _show_bar(progress: Progress) -> batch.Show:
    """Returns a context manager that shows a bar while a document is in progress."""

    @contextmanager
    def show(document: Document) -> Iterator[Callable[[Job], object]]:
        task = progress.add_task(f"{document.place}: uploading", total=100)
        try:
            yield listener(progress, task, f"{document.place}: ")
        finally:
            progress.remove_task(task)

    return show


def _print_result(document: Document, result: Result | str) -> None:
    """Prints the paths of new results, or an error and failed pages to standard error."""
    if isinstance(result, str):
        report(f"{document.path}: {result}", 0)
        return
    for page in result.job.failed_pages if result.job else ():
        report(f"{document.path}: OCR failed on page {page.page}: {page.message}", 0)
    if result.new:
        print(*result.paths, sep="\n", flush=True)


def _summarize(done: batch.Batch, total: int) -> int:
    remaining = total - done.processed - done.skipped - done.failed
    parts = [
        f"{done.processed} processed",
        f"{done.skipped} already done" if done.skipped else "",
        f"{done.failed} failed (run the same command to retry)" if done.failed else "",
        f"{remaining} not started" if remaining else "",
    ]
    report(", ".join(filter(None, parts)), 0)
    if isinstance(done.stopped, httpx.TransportError):
        reason = f"the server does not respond: {done.stopped or type(done.stopped).__name__}"
        return report(f"{reason}; run the same command to resume", UNAVAILABLE)
    if done.stopped:
        code = UNAVAILABLE if done.stopped.retryable else REFUSED
        return report(f"{done.stopped} [{done.stopped.code}]", code)
    return FAILED if done.failed else 0
