"""`ocr-tasks submit`: reads many documents, and goes on where an earlier call was ended."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import httpx
from rich.progress import Progress

from ocr_tasks.client import AsyncClient, Job, Option
from ocr_tasks.commands import requests
from ocr_tasks.commands.bars import bars, listener
from ocr_tasks.commands.exits import (
    FAILED,
    INTERRUPTED,
    REFUSED,
    UNAVAILABLE,
    USAGE,
    complain,
)
from ocr_tasks.folders import batch, documents
from ocr_tasks.folders.documents import Found
from ocr_tasks.folders.ledger import FOLDER, Ledger
from ocr_tasks.folders.reader import Read, Reader

#: Seconds for which a server may be away, or have no room, before the command gives up.
_PATIENCE = 300


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `submit`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="each is a document; or a folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the results; what is done is remembered there, in .ocr-tasks",
    )
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="read the documents in folders and their folders; results keep that tree",
    )
    requests.add_results(parser)
    requests.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    ledger = Ledger(options.output / FOLDER)
    try:
        fields, wanted = requests.wanted(options), requests.artifacts(options)
        found = list(_found(options, ledger))
    except ValueError as error:
        return complain(str(error), USAGE)
    except OSError as error:
        return complain(f"{error.filename} cannot be read: {error.strerror}", USAGE)
    try:
        done = asyncio.run(_read(options, found, ledger, fields, wanted))
    except ConnectionError as error:
        return complain(str(error), UNAVAILABLE)
    except KeyboardInterrupt:
        words = "interrupted. The same command goes on from here; the server reads on meanwhile"
        return complain(words, INTERRUPTED)
    return _ended(done, len(found))


def _found(options: argparse.Namespace, ledger: Ledger) -> Iterator[Found]:
    """The documents of a command line, each once."""
    out = options.output.resolve()
    results = {out / row for entry in ledger.all() for row in entry.results}
    seen: set[Path] = set()
    for path in options.files:
        if path.is_dir():
            if not options.recursive:
                raise ValueError(f"{path} is a folder; --recursive reads what is in it")
            rows = documents.walk(path, {out}, lambda error: complain(str(error), 0))
        elif path.is_file():
            rows = iter([Found(path, PurePath(path.name))])
        else:
            raise ValueError(f"there is no file {path}")
        for row in rows:
            real = row.path.resolve()
            if real not in seen and real not in results:
                seen.add(real)
                yield row


async def _read(
    options: argparse.Namespace,
    found: list[Found],
    ledger: Ledger,
    fields: dict[str, Option],
    wanted: list[str],
) -> batch.Batch:
    async with AsyncClient(options.url, patience=_PATIENCE) as client:
        if not await client.alive():  # patience is for one that goes away
            raise ConnectionError(f"no OCR Tasks server answers at {options.url}")
        reader = Reader(client, options.output, ledger, fields, wanted)
        with bars() as progress:
            return await batch.run(reader, found, options.jobs, _shown(progress), _say(progress))


def _shown(progress: Progress) -> batch.Show:
    """Gives each document that is at hand a bar."""

    @contextmanager
    def show(found: Found) -> Iterator[Callable[[Job], object]]:
        task = progress.add_task(f"{found.place}: sending", total=100)
        try:
            yield listener(progress, task, f"{found.place}: ")
        finally:
            progress.remove_task(task)

    return show


def _say(progress: Progress) -> Callable[[Found, Read | str], object]:
    def say(found: Found, result: Read | str) -> None:
        if isinstance(result, str):
            complain(f"{found.path}: {result}", 0)
            return
        for page in result.job.failed_pages if result.job else ():
            complain(f"{found.path}: page {page.page} keeps its image: {page.message}", 0)
        if result.now:
            print(*result.results, sep="\n", flush=True)

    return say


def _ended(done: batch.Batch, number: int) -> int:
    left = number - done.read - done.skipped - done.failed
    words = [
        f"{done.read} read",
        f"{done.skipped} were done" if done.skipped else "",
        f"{done.failed} failed; the same command tries them again" if done.failed else "",
        f"{left} left" if left else "",
    ]
    complain(", ".join(filter(None, words)), 0)
    if isinstance(done.stopped, httpx.TransportError):
        reason = f"the server does not answer: {done.stopped or type(done.stopped).__name__}"
        return complain(f"{reason}. The same command goes on from here", UNAVAILABLE)
    if done.stopped:
        code = UNAVAILABLE if done.stopped.retryable else REFUSED
        return complain(f"{done.stopped} [{done.stopped.code}]", code)
    return FAILED if done.failed else 0
