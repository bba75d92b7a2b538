"""`ocr-tasks watch`: reads the documents that are put into a folder."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from ocr_tasks.client import AsyncClient, Option
from ocr_tasks.commands import requests
from ocr_tasks.commands.exits import UNAVAILABLE, USAGE, complain
from ocr_tasks.folders.inbox import Inbox, Manners
from ocr_tasks.folders.ledger import FOLDER, Ledger
from ocr_tasks.folders.reader import Reader

#: Seconds for which a request is tried again before it is said that the server is away.
_PATIENCE = 5


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `watch`."""
    parser.add_argument("folder", type=Path, metavar="IN", help="folder in which documents appear")
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="folder of the results; what is done is remembered there, in .ocr-tasks",
    )
    after = parser.add_mutually_exclusive_group()
    after.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="move documents there once they are read (default: they stay, and are remembered)",
    )
    after.add_argument("--delete", action="store_true", help="delete documents once they are read")
    parser.add_argument(
        "--failed",
        type=Path,
        metavar="DIR",
        help="move documents there that cannot be read, with the reason (default: OUT/failed)",
    )
    parser.add_argument(
        "--settle",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="a file is complete when it has not changed for so long (5)",
    )
    parser.add_argument(
        "--unfinished",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long a PDF without its end, or an empty file, is waited for (600)",
    )
    parser.add_argument(
        "--poll",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="look so often, instead of being told of changes: for network shares",
    )
    requests.add_results(parser)
    requests.add_options(parser)
    parser.set_defaults(run=_run)


def _seconds(text: str) -> float:
    if 0 <= float(text) <= 86400:
        return float(text)
    raise argparse.ArgumentTypeError("0 to 86400")


def _run(options: argparse.Namespace) -> int:
    options.failed = options.failed or options.output / "failed"
    places = {path.resolve() for path in (options.output, options.failed, options.archive) if path}
    try:
        fields, wanted = requests.wanted(options), requests.artifacts(options)
        if options.folder.resolve() in places:
            return complain("IN has to be another folder than those of results", USAGE)
        next(options.folder.iterdir(), None)
    except ValueError as error:
        return complain(str(error), USAGE)
    except OSError as error:
        # It may be mounted later; systemd tries again.
        return complain(f"{error.filename} cannot be read: {error.strerror}", UNAVAILABLE)
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_watch(options, places, fields, wanted))
    return complain("ended. Started again, it goes on from here", 0)


async def _watch(
    options: argparse.Namespace,
    places: set[Path],
    fields: dict[str, Option],
    wanted: list[str],
) -> None:
    manners = Manners(
        archive=options.archive,
        failed=options.failed,
        delete=options.delete,
        settle=options.settle,
        unfinished=options.unfinished,
        poll=options.poll,
        at_once=options.jobs,
    )
    ledger = Ledger(options.output / FOLDER)
    async with AsyncClient(options.url, patience=_PATIENCE) as client:
        reader = Reader(client, options.output, ledger, fields, wanted)
        inbox = Inbox(options.folder, reader, ledger, manners, places, _say)
        _say(f"watching {options.folder} for {options.url}  (Ctrl-C ends it)")
        work = asyncio.ensure_future(inbox.watch())
        with suppress(NotImplementedError):  # Windows has no such signal
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        await work


def _say(text: str) -> None:
    print(f"ocr-tasks: {text}", file=sys.stderr, flush=True)
