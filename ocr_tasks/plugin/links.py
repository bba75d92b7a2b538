"""Keeps links that OCRmyPDF takes for broken.

In a document with named destinations, OCRmyPDF disables each link whose destination is not one of
their names, including links to a page or to another document.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ocrmypdf._pipelines import _common
from pikepdf import Dictionary, Name, NamePath, NameTree, Pdf, String

log = logging.getLogger("ocrmypdf.pages")

_NAME = "remove_broken_goto_annotations"
_NAMED_DESTINATIONS = NamePath.Names.Dests


def install() -> None:
    """Replaces OCRmyPDF's function, because there is no hook for it."""
    assert hasattr(_common, _NAME)  # noqa: S101  # another version of OCRmyPDF may not have it
    setattr(_common, _NAME, disable_broken)


def disable_broken(pdf: Pdf) -> bool:
    """Disables links to missing named destinations, with which Ghostscript fails.

    Returns whether there are any.
    """
    tree = pdf.Root.get(_NAMED_DESTINATIONS)
    if not isinstance(tree, Dictionary):
        return False
    names = set(NameTree(tree).keys())
    found = False
    for number, action in _actions(pdf):
        name = action.get("/D") if action.get("/S") == Name.GoTo else None
        if isinstance(name, String) and str(name) not in names:
            log.warning("page %d: a link to the missing destination %s is disabled", number, name)
            del action.D
            found = True
    return found


def _actions(pdf: Pdf) -> Iterator[tuple[int, Dictionary]]:
    """Yields the actions of annotations, each with its 1-based page number."""
    for number, page in enumerate(pdf.pages, start=1):
        for annotation in page.obj.get("/Annots", []):
            action = annotation.get("/A") if isinstance(annotation, Dictionary) else None
            if isinstance(action, Dictionary):
                yield number, action
