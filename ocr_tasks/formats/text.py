"""The plain text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ocr_tasks.formats.page import Line, Page, Paragraph
from ocr_tasks.formats.writing import plain


def page_text(page: Page) -> str:
    """Returns the page's lines, with an empty line between paragraphs and no final line break."""
    paragraphs = (_paragraph_text(paragraph) for paragraph in page.paragraphs)
    return "\n\n".join(filter(None, paragraphs))


def document(pages: Iterable[Page]) -> Iterator[str]:
    """Yields the text of a document page by page, with form feeds between pages.

    Each part between form feeds is one page, even if it is empty, as in OCRmyPDF's sidecar.
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
