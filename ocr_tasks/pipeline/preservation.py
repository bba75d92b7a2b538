"""What a document has besides its pages, so that nothing of it is lost without a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pikepdf

log = logging.getLogger("ocrmypdf.job")

#: Maximum number of bookmarks that are counted. An outline may be endless, because its items can
#: point at each other.
_MOST_BOOKMARKS = 100_000


def lost(before: Path, after: Path) -> list[str]:
    """Returns the names of what a PDF had and another one does not have, or has less of."""
    kept = _contents(after)
    return [name for name, number in _contents(before).items() if kept.get(name, 0) < number]


def _contents(path: Path) -> Mapping[str, int]:
    """Returns how much of each kind of content a PDF has; nothing if it is damaged."""
    try:
        with pikepdf.open(path) as pdf:
            return {name: number for name, number in _counts(pdf) if number}
    except (pikepdf.PikepdfError, ValueError, TypeError, LookupError) as error:
        log.info("the contents of the document are unknown: %s", type(error).__name__)
        return {}


def _counts(pdf: pikepdf.Pdf) -> Iterator[tuple[str, int]]:
    root = pdf.Root
    form = root.get("/AcroForm")
    yield "bookmarks", _number_of_bookmarks(root)
    yield "attachments", len(pdf.attachments)
    yield "form fields", _length(form, "/Fields")
    yield "layers", _length(root.get("/OCProperties"), "/OCGs")
    yield "tags", int("/StructTreeRoot" in root)
    yield "the language", int("/Lang" in root)
    yield "page labels", int("/PageLabels" in root)


def _length(owner: pikepdf.Object | None, name: str) -> int:
    found = owner.get(name) if isinstance(owner, pikepdf.Dictionary) else None
    return len(found) if isinstance(found, pikepdf.Array) else 0


def _number_of_bookmarks(root: pikepdf.Object) -> int:
    outlines = root.get("/Outlines")
    waiting = [outlines.get("/First")] if isinstance(outlines, pikepdf.Dictionary) else []
    seen: set[tuple[int, int]] = set()
    while waiting and len(seen) < _MOST_BOOKMARKS:
        item = waiting.pop()
        if not isinstance(item, pikepdf.Dictionary) or item.objgen in seen:
            continue
        seen.add(item.objgen)
        waiting += [item.get("/Next"), item.get("/First")]
    return len(seen)
