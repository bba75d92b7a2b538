"""What a document has besides its pages' content, so that nothing is lost without a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Pdf

log = logging.getLogger("ocrmypdf.job")

_PAGES = "pages"

#: Errors of pikepdf that a damaged document causes.
_INVALID = (ValueError, TypeError, LookupError)

#: Maximum number of objects of one kind that are counted. A tree may be endless, because its nodes
#: can point at each other.
_MOST = 100_000

#: Entries of the information dictionary (ISO 32000-1, 14.3.3) that people write.
_INFORMATION = ("/Title", "/Author", "/Subject", "/Keywords")


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


def _counts(pdf: Pdf) -> Iterator[tuple[str, int]]:
    root = pdf.Root
    annotations = [row for page in pdf.pages for row in _dictionaries(page.obj, "/Annots")]
    fields = _dictionaries(root.get("/AcroForm"), "/Fields")
    yield _PAGES, len(pdf.pages)
    yield "links", sum(map(_is_link, annotations))
    yield "named destinations", _number_of_destinations(root)
    yield "title, author, subject or keywords", sum(key in pdf.docinfo for key in _INFORMATION)
    yield "bookmarks", sum(1 for _ in _tree(_first(root.get("/Outlines")), "/Next", "/First"))
    yield "attachments", len(pdf.attachments)
    widgets = sum(row.get("/Subtype") == Name.Widget for row in annotations)
    yield "form fields", len(fields) + widgets
    yield "values of form fields", sum("/V" in field for field in _tree(fields, "/Kids"))
    yield "layers", len(_dictionaries(root.get("/OCProperties"), "/OCGs"))
    yield "tags", int("/StructTreeRoot" in root)
    yield "the language", int("/Lang" in root)
    yield "page labels", int("/PageLabels" in root)


def _is_link(annotation: Dictionary) -> bool:
    """Returns whether an annotation is a link that leads somewhere."""
    if annotation.get("/Subtype") != Name.Link:
        return False
    action = annotation.get("/A")
    return "/Dest" in annotation or (isinstance(action, Dictionary) and len(action) > 1)


def _number_of_destinations(root: Object) -> int:
    names, old_form = root.get("/Names"), root.get("/Dests")
    tree = names.get("/Dests") if isinstance(names, Dictionary) else None
    pairs = sum(len(_items(node, "/Names")) // 2 for node in _tree([tree], "/Kids"))
    return pairs + (len(old_form) if isinstance(old_form, Dictionary) else 0)


def _items(owner: Object | None, name: str) -> list[Object]:
    found = owner.get(name) if isinstance(owner, Dictionary) else None
    return list(found.as_list()) if isinstance(found, Array) else []


def _dictionaries(owner: Object | None, name: str) -> list[Dictionary]:
    return [item for item in _items(owner, name) if isinstance(item, Dictionary)]


def _first(outlines: Object | None) -> list[Object | None]:
    return [outlines.get("/First")] if isinstance(outlines, Dictionary) else []


def _tree(roots: Sequence[Object | None], *branches: str) -> Iterator[Dictionary]:
    """Yields the dictionaries of a tree, each once. `branches` are the names of its pointers."""
    waiting = list(roots)
    seen: set[tuple[int, int]] = set()
    while waiting and len(seen) < _MOST:
        node = waiting.pop()
        if not isinstance(node, Dictionary) or node.objgen in seen:
            continue
        if node.is_indirect:
            seen.add(node.objgen)
        yield node
        for branch in branches:
            below = node.get(branch)
            waiting += list(below.as_list()) if isinstance(below, Array) else [below]
