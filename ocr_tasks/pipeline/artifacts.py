"""The results of a run beside the PDF: text, hOCR, ALTO and JSON, written while pages are read.

All are made from the same page results (`plugin.pages`), in the order of the pages, and never hold
more than one page in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from ocr_tasks.formats import alto, hocr, json_words, text
from ocr_tasks.formats.page import Page
from ocr_tasks.model import Artifact
from ocr_tasks.options import JobOptions
from ocr_tasks.plugin.page_results import PageStore
from ocr_tasks.storage import layout


class _RunEnded(Exception):
    """The run has ended before its last page."""


class Writer:
    """Writes the artifacts of one run in threads of its own; a context manager that ends them."""

    def __init__(
        self,
        folder: layout.JobFolder,
        run: str,
        options: JobOptions,
        total: int,
        versions: dict[str, str],
    ) -> None:
        self._folder = folder
        self._run = run
        self._options = options
        self._total = total
        self._system = f"OCRmyPDF {versions['ocrmypdf']}, Tesseract {versions['tesseract']}"
        self._pages = PageStore(folder)
        self._ready: set[int] = set()
        self._ended = False
        self._changed = threading.Condition()
        self._made: list[Future[Artifact]] = []

    def __enter__(self) -> Writer:
        documents = self._documents()
        self._pool = ThreadPoolExecutor(len(documents), thread_name_prefix="artifact")
        self._made = [
            self._pool.submit(self._write, name, document) for name, document in documents.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._pool.shutdown()

    def page_ready(self, number: int) -> None:
        """The words of a page, counted from 1, are on storage."""
        with self._changed:
            self._ready.add(number)
            self._changed.notify_all()

    def is_ready(self, number: int) -> bool:
        """Whether `page_ready` was called for this page."""
        return number in self._ready

    def finish(self) -> list[Artifact]:
        """Waits for the last page to be written."""
        return [made.result() for made in self._made]

    def _documents(self) -> dict[str, Callable[[Iterable[Page]], Iterable[str]]]:
        title = self._options.title or "document"
        made_by = ("input.pdf", "OCR Tasks", version("ocr-tasks"), datetime.now(UTC))
        source: dict[str, Any] = {"system": self._system}
        documents: dict[str, Callable[[Iterable[Page]], Iterable[str]]] = {
            "hocr": lambda pages: hocr.document(pages, title, self._system),
            "alto": lambda pages: alto.document(pages, *made_by),
            "json": lambda pages: json_words.document(pages, source),
        }
        return {"text": text.document, **documents} if self._options.sidecar else documents

    def _write(self, name: str, document: Callable[[Iterable[Page]], Iterable[str]]) -> Artifact:
        encoded = (chunk.encode() for chunk in document(self._follow()))
        return layout.write_artifact(self._folder, self._run, name, encoded)

    def _follow(self) -> Iterator[Page]:
        """The pages in order, each as soon as it is ready."""
        for number in range(1, self._total + 1):
            with self._changed:
                while not (self._ended or number in self._ready):
                    self._changed.wait()
                if self._ended:
                    raise _RunEnded
            yield self._pages.words(number)
