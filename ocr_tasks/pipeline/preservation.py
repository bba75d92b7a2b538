"""What a document has besides its pages, so that nothing of it is lost without a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pikepdf

log = logging.getLogger("ocrmypdf.job")

_PAGES = "pages"

#: Errors of pikepdf that a damaged document causes.
_INVALID = (ValueError, TypeError, LookupError)

#: Maximum number of bookmarks that are counted. An outline may be endless, because its items can
#: point at each other.
_MOST_BOOKMARKS = 100_000


def lost(before: Path, after: Path) -> list[str]:
    """Returns the names of what a PDF had and another one does not have, or has less of.

    The number of pages has to be the same: Ghostscript replaces the page of a portfolio with the
    pages of its attachments.
    """
    kept = _contents(after)
    return [
        name
        for name, number in _contents(before).items()
        if kept.get(name, 0) < number or (name == _PAGES and kept.get(name) != number)
    ]


def is_portfolio(path: Path) -> bool:
    """Returns whether a PDF is a portfolio: a cover page and attached documents."""
    try:
        with pikepdf.open(path) as pdf:
            return "/Collection" in pdf.Root and len(pdf.attachments) > 0
    except (pikepdf.PikepdfError, *_INVALID):
        return False


def _contents(path: Path) -> Mapping[str, int]:
    """Returns how much of each kind of content a PDF has; nothing if it is damaged."""
    try:
        with pikepdf.open(path) as pdf:
            return {name: number for name, number in _counts(pdf) if number}
    except (pikepdf.PikepdfError, *_INVALID) as error:
        log.info("the contents of the document are unknown: %s", type(error).__name__)
        return {}


def _counts(pdf: pikepdf.Pdf) -> Iterator[tuple[str, int]]:
    root = pdf.Root
    form = root.get("/AcroForm")
    yield _PAGES, len(pdf.pages)
    annotations = [row for page in pdf.pages for row in _annotations(page)]
    yield "links", sum(map(_is_link, annotations))
    yield "named destinations", _number_of_destinations(root)
    yield "the title", int(bool(str(pdf.docinfo.get("/Title", ""))))
    yield "bookmarks", _number_of_bookmarks(root)
    yield "attachments", len(pdf.attachments)
    widgets = sum(row.get("/Subtype") == "/Widget" for row in annotations)
    yield "form fields", _length(form, "/Fields") + widgets
    yield "layers", _length(root.get("/OCProperties"), "/OCGs")
    yield "tags", int("/StructTreeRoot" in root)
    yield "the language", int("/Lang" in root)
    yield "page labels", int("/PageLabels" in root)


def _annotations(page: pikepdf.Page) -> Iterator[pikepdf.Dictionary]:
    found = page.obj.get("/Annots")
    for row in found if isinstance(found, pikepdf.Array) else ():
        if isinstance(row, pikepdf.Dictionary):
            yield row


def _is_link(annotation: pikepdf.Dictionary) -> bool:
    """Returns whether an annotation is a link that leads somewhere."""
    if annotation.get("/Subtype") != "/Link":
        return False
    action = annotation.get("/A")
    return "/Dest" in annotation or (isinstance(action, pikepdf.Dictionary) and len(action) > 1)


def _number_of_destinations(root: pikepdf.Object) -> int:
    tree = root.get(pikepdf.NamePath.Names.Dests)
    names = len(pikepdf.NameTree(tree)) if isinstance(tree, pikepdf.Dictionary) else 0
    old_form = root.get("/Dests")
    return names + (len(old_form) if isinstance(old_form, pikepdf.Dictionary) else 0)


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
