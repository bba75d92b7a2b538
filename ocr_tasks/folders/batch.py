"""Processes many documents, several at a time, for `ocr-tasks submit`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import httpx

from ocr_tasks.client import ApiError, Job, TransferError
from ocr_tasks.folders.document_processor import (
    DocumentChanged,
    DocumentProcessor,
    JobFailed,
    Result,
)
from ocr_tasks.folders.documents import Document

#: A context manager for the time that a document is in progress. Yields a callback for its job.
Show = Callable[[Document], AbstractContextManager[Callable[[Job], object]]]


@dataclass
class Batch:
    """Numbers of documents. `stopped` is the error that prevents further documents, or None."""

    processed: int = 0
    skipped: int = 0
    failed: int = 0
    stopped: ApiError | httpx.TransportError | None = field(default=None)


async def run(
    processor: DocumentProcessor,
    documents: Iterable[Document],
    at_once: int,
    show: Show,
    report: Callable[[Document, Result | str], object],
) -> Batch:
    """Processes documents. Calls `report` for each with its result, or an error message."""
    batch, remaining = Batch(), iter(documents)

    async def work() -> None:
        for document in remaining:
            if batch.stopped:
                return
            with show(document) as listener:
                await _process(processor, document, listener, batch, report)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return batch


async def _process(
    processor: DocumentProcessor,
    document: Document,
    listener: Callable[[Job], object],
    batch: Batch,
    report: Callable[[Document, Result | str], object],
) -> None:
    name = str(document.path.resolve())
    try:
        result = await processor.process(document, name, listener, renew=True)
    except JobFailed as error:
        problem = f"{error} [{error.failure.code}]"
    except DocumentChanged:
        problem = "The file changed during processing. Submit it again when it is complete."
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
        batch.processed += result.new
        batch.skipped += not result.new
        report(document, result)
        return
    batch.failed += 1
    report(document, problem)
