"""`ocr-tasks watch`: runs OCR on documents as they appear in a folder."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from ocr_tasks import argument_types
from ocr_tasks.client import AsyncClient, Option
from ocr_tasks.commands import client_arguments
from ocr_tasks.exits import UNAVAILABLE, USAGE, report
from ocr_tasks.folders.document_processor import DocumentProcessor
from ocr_tasks.folders.inbox import Inbox, InboxOptions
from ocr_tasks.folders.ledger import FOLDER, Ledger

#: Seconds for which a request is retried before the server is reported as unavailable.
_RETRY_SECONDS = 5


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `watch`."""
    parser.add_argument("folder", type=Path, metavar="IN", help="folder to watch for documents")
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="folder for results; progress is recorded in its subfolder .ocr-tasks",
    )
    after = parser.add_mutually_exclusive_group()
    after.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="move processed documents to this folder (default: leave them in IN)",
    )
    after.add_argument("--delete", action="store_true", help="delete processed documents")
    parser.add_argument(
        "--failed",
        type=Path,
        metavar="DIR",
        help="move failed documents to this folder, each with an error file (default: OUT/failed)",
    )
    parser.add_argument(
        "--settle",
        type=argument_types.number(0, 86400),
        default=5.0,
        metavar="SECONDS",
        help="process a file when it has not changed for this long (default: 5)",
    )
    parser.add_argument(
        "--unfinished",
        type=argument_types.number(0, 86400),
        default=600.0,
        metavar="SECONDS",
        help="process an incomplete PDF or an empty file after this long anyway (default: 600)",
    )
    parser.add_argument(
        "--poll",
        type=argument_types.number(0, 86400),
        default=0.0,
        metavar="SECONDS",
        help="scan IN at this interval instead of waiting for notifications; for network shares",
    )
    client_arguments.add_results(parser)
    client_arguments.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    options.failed = options.failed or options.output / "failed"
    targets = {path.resolve() for path in (options.output, options.failed, options.archive) if path}
    try:
        fields = client_arguments.job_options(options)
        artifacts = client_arguments.artifacts(options)
        if options.folder.resolve() in targets:
            return report("IN must not be the same folder as OUT, --failed or --archive", USAGE)
        next(options.folder.iterdir(), None)
    except ValueError as error:
        return report(str(error), USAGE)
    except OSError as error:
        # The folder may be mounted later. systemd restarts the command after this exit code.
        return report(f"{error.filename} cannot be read: {error.strerror}", UNAVAILABLE)
    if reason := client_arguments.output_error(options.output):
        return report(reason, UNAVAILABLE)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_watch(options, targets, fields, artifacts))
    return report("stopped; it resumes when you start it again", 0)


async def _watch(
    options: argparse.Namespace,
    targets: set[Path],
    fields: dict[str, Option],
    artifacts: list[str],
) -> None:
    inbox_options = InboxOptions(
        archive=options.archive,
        failed=options.failed,
        delete=options.delete,
        settle=options.settle,
        unfinished=options.unfinished,
        poll=options.poll,
        at_once=options.jobs,
    )
    ledger = Ledger(options.output / FOLDER)
    async with AsyncClient(options.url, patience=_RETRY_SECONDS) as client:
        processor = DocumentProcessor(client, options.output, ledger, fields, artifacts)
        inbox = Inbox(options.folder, processor, ledger, inbox_options, targets, _print)
        _print(f"watching {options.folder}, server {options.url}  (Ctrl-C to stop)")
        work = asyncio.ensure_future(inbox.watch())
        with suppress(NotImplementedError):  # on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        await work


def _print(text: str) -> None:
    print(f"ocr-tasks: {text}", file=sys.stderr, flush=True)
