"""Plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocr_tasks.formats.page import Line, Page, Paragraph
from ocr_tasks.formats.writing import plain


def page_text(page: Page) -> str:
    """The page's lines, with an empty line between paragraphs; no line break at the end."""
    paragraphs = (_paragraph_text(paragraph) for paragraph in page.paragraphs)
    return "\n\n".join(filter(None, paragraphs))


def document(pages: Iterable[Page]) -> Iterator[str]:
    """The text of a document, a page at a time, with a form feed between pages.

    As in OCRmyPDF's sidecar, the nth part between form feeds is the nth page, also if it is empty.
    """
    separator = ""
    for page in pages:
        text = page_text(page)
        yield f"{separator}{text}\n" if text else separator
        separator = "\f"


def _paragraph_text(paragraph: Paragraph) -> str:
    return "\n".join(filter(None, map(_line_text, paragraph.lines)))


def _line_text(line: Line) -> str:
    return " ".join(filter(None, (plain(word.text) for word in line.words)))
