"""What a document has besides its pages' content, so that nothing is lost without a warning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Pdf

log = logging.getLogger("ocrmypdf.job")

#: Maximum number of objects of one kind that are counted. A tree may be endless, because its nodes
#: can point at each other.
_MOST = 100_000

#: Entries of the information dictionary (ISO 32000-1, 14.3.3) that people write.
_INFORMATION = ("/Title", "/Author", "/Subject", "/Keywords")


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


def _counts(pdf: Pdf) -> Iterator[tuple[str, int]]:
    root = pdf.Root
    fields = list(_tree(_array(root.get("/AcroForm"), "/Fields"), "/Kids"))
    yield "pages", len(pdf.pages)
    yield "bookmarks", sum(1 for _ in _tree(_first(root.get("/Outlines")), "/Next", "/First"))
    yield "attachments", len(pdf.attachments)
    yield "form fields", len(_array(root.get("/AcroForm"), "/Fields"))
    yield "values of form fields", sum("/V" in field for field in fields)
    yield "links", sum(_is_link(one) for page in pdf.pages for one in _array(page.obj, "/Annots"))
    yield "named destinations", _number_of_destinations(root)
    yield "layers", len(_array(root.get("/OCProperties"), "/OCGs"))
    yield "tags", int("/StructTreeRoot" in root)
    yield "the language", int("/Lang" in root)
    yield "page labels", int("/PageLabels" in root)
    yield "title, author, subject or keywords", sum(key in pdf.docinfo for key in _INFORMATION)


def _array(owner: Object | None, name: str) -> list[Object | None]:
    found = owner.get(name) if isinstance(owner, Dictionary) else None
    return list(found.as_list()) if isinstance(found, Array) else []


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


def _is_link(annotation: Object | None) -> bool:
    return isinstance(annotation, Dictionary) and bool(annotation.get("/Subtype") == Name.Link)


def _number_of_destinations(root: Object) -> int:
    names, old = root.get("/Names"), root.get("/Dests")
    tree = names.get("/Dests") if isinstance(names, Dictionary) else None
    pairs = sum(len(_array(node, "/Names")) // 2 for node in _tree([tree], "/Kids"))
    return pairs + (len(old) if isinstance(old, Dictionary) else 0)
