"""The artifacts of a run other than the PDF: text, hOCR, ALTO and JSON.

They are written during OCR, from the stored page results (`plugin.page_results`), in page order.
Each artifact holds only one page in memory.
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
    """The run ended before its last page."""


class Writer:
    """Writes the artifacts of one run, each in its own thread.

    A context manager: `__enter__` starts the threads, `__exit__` ends them.
    """

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
        self._artifacts: list[Future[Artifact]] = []

    def __enter__(self) -> Writer:
        documents = self._documents()
        self._pool = ThreadPoolExecutor(len(documents), thread_name_prefix="artifact")
        self._artifacts = [
            self._pool.submit(self._write, name, document) for name, document in documents.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._pool.shutdown()

    def page_ready(self, number: int) -> None:
        """Adds a page whose words are stored. `number` is 1-based."""
        with self._changed:
            self._ready.add(number)
            self._changed.notify_all()

    def is_ready(self, number: int) -> bool:
        """Returns whether `page_ready` was called for this page."""
        return number in self._ready

    def finish(self) -> list[Artifact]:
        """Waits until all pages are written, and returns the artifacts."""
        return [artifact.result() for artifact in self._artifacts]

    def _documents(self) -> dict[str, Callable[[Iterable[Page]], Iterable[str]]]:
        title = self._options.title or "document"
        alto_source = ("input.pdf", "OCR Tasks", version("ocr-tasks"), datetime.now(UTC))
        source: dict[str, Any] = {"system": self._system}
        documents: dict[str, Callable[[Iterable[Page]], Iterable[str]]] = {
            "hocr": lambda pages: hocr.document(pages, title, self._system),
            "alto": lambda pages: alto.document(pages, *alto_source),
            "json": lambda pages: json_words.document(pages, source),
        }
        return {"text": text.document, **documents} if self._options.sidecar else documents

    def _write(self, name: str, document: Callable[[Iterable[Page]], Iterable[str]]) -> Artifact:
        encoded = (chunk.encode() for chunk in document(self._pages_when_ready()))
        return layout.write_artifact(self._folder, self._run, name, encoded)

    def _pages_when_ready(self) -> Iterator[Page]:
        """Yields the pages in order, each as soon as it is ready."""
        for number in range(1, self._total + 1):
            with self._changed:
                while not (self._ended or number in self._ready):
                    self._changed.wait()
                if self._ended:
                    raise _RunEnded
            yield self._pages.words(number)
