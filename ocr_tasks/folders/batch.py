"""Many documents, several at a time: what `ocr-tasks submit` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import httpx

from ocr_tasks.client import ApiError, Job, TransferError
from ocr_tasks.folders.documents import Found
from ocr_tasks.folders.reader import Changed, NotRead, Read, Reader

#: Gives what is to hear of a document's job, for as long as the document is at hand.
Show = Callable[[Found], AbstractContextManager[Callable[[Job], object]]]


@dataclass
class Batch:
    """How far it is. `stopped` is what makes it useless to go on with the next document."""

    read: int = 0
    skipped: int = 0
    failed: int = 0
    stopped: ApiError | httpx.TransportError | None = field(default=None)


async def run(
    reader: Reader,
    documents: Iterable[Found],
    at_once: int,
    show: Show,
    say: Callable[[Found, Read | str], object],
) -> Batch:
    """Reads documents; `say` hears of each what came of it, or why nothing did."""
    batch, left = Batch(), iter(documents)

    async def work() -> None:
        for found in left:
            if batch.stopped:
                return
            with show(found) as tell:
                await _read(reader, found, tell, batch, say)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return batch


async def _read(
    reader: Reader,
    found: Found,
    tell: Callable[[Job], object],
    batch: Batch,
    say: Callable[[Found, Read | str], object],
) -> None:
    try:
        read = await reader.read(found, str(found.path.resolve()), tell, renew=True)
    except NotRead as error:
        problem = f"{error} [{error.why.code}]"
    except Changed:
        problem = "It was changed while it was read. Give it once more when it is complete."
    except ApiError as error:
        if error.retryable or error.status in (401, 403):
            batch.stopped = error
            return
        problem = f"{error} [{error.code}]"
    except httpx.TransportError as error:
        batch.stopped = error
        return
    except (TransferError, OSError) as error:
        problem = str(error)
    else:
        batch.read += read.now
        batch.skipped += not read.now
        say(found, read)
        return
    batch.failed += 1
    say(found, problem)
