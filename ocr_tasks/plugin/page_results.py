"""The results of each page, stored in the job's folder as soon as the page is finished.

pages/000001/page.json     the words (`formats.page`), which the API returns
             summary.json  number of words, confidence, source, and host that ran OCR
             preview.jpg   a small image of the page
             result.json   marks the page as finished, for later runs of the job, with
             ocr.hocr, text.txt, visible.pdf   OCRmyPDF's files of the page
             too-slow.json marks a page that must not be drawn, with the time that it exceeded
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import msgspec
from ocrmypdf._pipelines._common import PageResult

from ocr_tasks.formats import hocr
from ocr_tasks.formats.page import Page
from ocr_tasks.storage import atomic, layout

#: Resolution of a page without hOCR.
_DEFAULT_DPI = 300.0

_FILES = {"ocr": "ocr.hocr", "text": "text.txt", "pdf_page_from_image": "visible.pdf"}


class PageStore:
    """The page results of one job. Page numbers are 1-based."""

    def __init__(self, folder: layout.JobFolder) -> None:
        self._folder = folder

    def path(self, number: int) -> Path:
        """Returns the folder of a page, and creates it if it is missing."""
        path = self._folder.page(number)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def preview(self, number: int) -> Path:
        """Returns the path of a page's preview, and creates its folder if it is missing."""
        self.path(number)
        return self._folder.page_preview(number)

    def load(self, number: int) -> PageResult | None:
        """Returns the result of a page from an earlier run of the job, or None."""
        path = self._folder.page(number)
        try:
            record = json.loads((path / "result.json").read_text())
        except FileNotFoundError:
            return None
        files: dict[str, Any] = {field: path / _FILES[field] for field in record["files"]}
        if not all(file.exists() for file in files.values()):
            return None
        return PageResult(
            pageno=number - 1, orientation_correction=record["orientation_correction"], **files
        )

    def save(self, result: PageResult) -> PageResult:
        """Stores the result of a page, and returns it with the paths of the stored files.

        The words are stored first, because the API returns them while the job runs.
        """
        number = result.pageno + 1
        path = self.path(number)
        rotation = result.orientation_correction
        self.save_words(_words(result, number))
        stored: dict[str, Any] = {}
        for field, name in _FILES.items():
            source: Path | None = getattr(result, field)
            if source is not None and source.exists():
                _link(source, path / name)
                stored[field] = path / name
        record = {"orientation_correction": rotation, "files": list(stored)}
        atomic.write(path / "result.json", json.dumps(record).encode())
        return PageResult(
            pageno=result.pageno,
            orientation_correction=rotation,
            ocr_tree=result.ocr_tree,
            **stored,
        )

    def mark_too_slow(self, number: int, seconds: float) -> None:
        """Marks a page that took more than `seconds` to draw."""
        atomic.write(
            self.path(number) / layout.PAGE_TOO_SLOW, json.dumps({"seconds": seconds}).encode()
        )

    def count_too_slow(self, seconds: float) -> int:
        """Returns the number of pages that are marked to take more than `seconds` to draw."""
        marks = self._folder.pages.glob(f"*/{layout.PAGE_TOO_SLOW}")
        return sum(self.is_too_slow(int(mark.parent.name), seconds) for mark in marks)

    def is_too_slow(self, number: int, seconds: float) -> bool:
        """Returns whether a page is marked to take more than `seconds` to draw."""
        try:
            mark = json.loads((self._folder.page(number) / layout.PAGE_TOO_SLOW).read_bytes())
        except FileNotFoundError:
            return False
        return bool(mark["seconds"] >= seconds)

    def save_words(self, page: Page, failed: bool = False) -> None:
        """Stores the words of a page and their summary. `failed` means that its OCR failed."""
        path = self.path(page.number)
        confidence = page.confidence
        summary = {
            "failed": failed,
            "source": page.source,
            "confidence": None if confidence is None else round(confidence, 3),
            "words": sum(1 for _ in page.words),
            "worker": socket.gethostname(),
        }
        atomic.write(path / layout.PAGE_WORDS, page.to_json())
        atomic.write(path / "summary.json", json.dumps(summary).encode())

    def mark_failed(self, number: int) -> None:
        """Stores that OCR of a page failed. Its own text is stored at the end of the run."""
        summary = {"failed": True, "source": "none", "confidence": None, "words": None}
        content = json.dumps(summary | {"worker": None}).encode()
        atomic.write(self.path(number) / "summary.json", content)

    def has_words(self, number: int) -> bool:
        """Returns whether the words of a page are stored."""
        return (self._folder.page(number) / layout.PAGE_WORDS).exists()

    def words(self, number: int) -> Page:
        """Returns the words of a page."""
        return Page.from_json((self._folder.page(number) / layout.PAGE_WORDS).read_bytes())

    def drop_intermediate(self, total: int) -> None:
        """Deletes the files that only another run would need. `total` is the number of pages."""
        for number in range(1, total + 1):
            for name in ("result.json", *_FILES.values()):
                (self._folder.page(number) / name).unlink(missing_ok=True)


def _words(result: PageResult, number: int) -> Page:
    if result.ocr is None or result.ocr.stat().st_size == 0:
        return Page.empty(number, 0, 0, _DEFAULT_DPI)
    page = hocr.parse(result.ocr.read_bytes(), number, None)
    return msgspec.structs.replace(page, rotation=result.orientation_correction)


def _link(source: Path, target: Path) -> None:
    """Links a file to another name, or copies it if the file system does not support hard links."""
    with atomic.replacing(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
