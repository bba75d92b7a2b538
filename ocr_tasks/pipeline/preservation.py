"""What a document has besides its pages' content, so that nothing is lost without a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Pdf

from ocr_tasks.formats.pdf_errors import INVALID

log = logging.getLogger("ocrmypdf.job")

_PAGES = "pages"

#: Marks the end of an iterator; None may be an item.
_END = object()

#: Maximum number of objects that are visited to count one kind. A tree may be endless, because its
#: nodes can point at each other, and many pages may share a long list.
_MOST = 200_000

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
    except INVALID:
        return False


def _contents(path: Path) -> Mapping[str, int]:
    """Returns how much of each kind of content a PDF has; nothing if it is damaged."""
    try:
        with pikepdf.open(path) as pdf:
            return {name: number for name, number in _counts(pdf) if number}
    except INVALID as error:
        log.info("the contents of the document are unknown: %s", type(error).__name__)
        return {}


def _counts(pdf: Pdf) -> Iterator[tuple[str, int]]:
    yield _PAGES, len(pdf.pages)
    for name, count in _KINDS.items():
        visits = _Visits()
        number = count(pdf, visits)
        if visits.left > 0:  # otherwise the number is unknown
            yield name, number


class _Visits:
    """Limits how many objects are visited."""

    def __init__(self) -> None:
        self.left = _MOST

    def of(self, items: Iterable[Object]) -> Iterator[Object]:
        """Yields items until the limit is reached."""
        for item in items:
            if self.left <= 0:
                return
            self.left -= 1
            yield item

    def tree(self, roots: Iterable[Object], *branches: str) -> Iterator[Dictionary]:
        """Yields the dictionaries of a tree, each once. `branches` are names of its pointers."""
        waiting = [self.of(roots)]
        seen: set[tuple[int, int]] = set()
        while waiting:
            node = next(waiting[-1], _END)
            if node is _END:
                waiting.pop()
            elif isinstance(node, Dictionary) and node.objgen not in seen:
                if node.is_indirect:
                    seen.add(node.objgen)
                yield node
                waiting += [self.of(_below(node, branch)) for branch in branches]


def _below(owner: Object | None, name: str) -> Iterable[Object]:
    """Returns the items of an array or the only object with that name; nothing if there is none."""
    found = owner.get(name) if isinstance(owner, Dictionary) else None
    if isinstance(found, Array):
        return (found[index] for index in range(len(found)))  # `iter` would copy the array
    return [] if found is None else [found]


def _annotations(pdf: Pdf, visits: _Visits) -> Iterator[Dictionary]:
    for page in pdf.pages:
        for one in visits.of(_below(page.obj, "/Annots")):
            if isinstance(one, Dictionary):
                yield one


def _links(pdf: Pdf, visits: _Visits) -> int:
    return sum(map(_is_link, _annotations(pdf, visits)))


def _is_link(annotation: Dictionary) -> bool:
    """Returns whether an annotation is a link that leads somewhere."""
    if annotation.get("/Subtype") != Name.Link:
        return False
    action = annotation.get("/A")
    leads = isinstance(action, Dictionary) and bool(set(action.keys()) - {"/S", "/Type"})
    return "/Dest" in annotation or leads


def _destinations(pdf: Pdf, visits: _Visits) -> int:
    old_form = pdf.Root.get("/Dests")
    tree = _below(pdf.Root.get("/Names"), "/Dests")
    names = sum(_length(node, "/Names") // 2 for node in visits.tree(tree, "/Kids"))
    return names + (len(old_form) if isinstance(old_form, Dictionary) else 0)


def _length(owner: Object | None, name: str) -> int:
    found = owner.get(name) if isinstance(owner, Dictionary) else None
    return len(found) if isinstance(found, Array) else 0


def _information(pdf: Pdf, visits: _Visits) -> int:
    return sum(bool(str(pdf.docinfo.get(key, "")).strip()) for key in _INFORMATION)


def _bookmarks(pdf: Pdf, visits: _Visits) -> int:
    first = _below(pdf.Root.get("/Outlines"), "/First")
    return sum(1 for _ in visits.tree(first, "/Next", "/First"))


def _form_fields(pdf: Pdf, visits: _Visits) -> int:
    widgets = sum(row.get("/Subtype") == Name.Widget for row in _annotations(pdf, visits))
    return _length(pdf.Root.get("/AcroForm"), "/Fields") + widgets


def _values(pdf: Pdf, visits: _Visits) -> int:
    fields = _below(pdf.Root.get("/AcroForm"), "/Fields")
    return sum("/V" in field for field in visits.tree(fields, "/Kids"))


_KINDS: Mapping[str, Callable[[Pdf, _Visits], int]] = {
    "links": _links,
    "named destinations": _destinations,
    "title, author, subject or keywords": _information,
    "bookmarks": _bookmarks,
    "attachments": lambda pdf, visits: len(pdf.attachments),
    "form fields": _form_fields,
    "values of form fields": _values,
    "layers": lambda pdf, visits: _length(pdf.Root.get("/OCProperties"), "/OCGs"),
    "tags": lambda pdf, visits: int("/StructTreeRoot" in pdf.Root),
    "the language": lambda pdf, visits: int("/Lang" in pdf.Root),
    "page labels": lambda pdf, visits: int("/PageLabels" in pdf.Root),
}
