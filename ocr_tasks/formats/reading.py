"""XML that others wrote: parsed without believing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from lxml import etree

from ocr_tasks.formats.writing import legal


def tree(document: bytes | str, kind: str) -> etree._Element:
    """The root of an XML document of a stranger, called `kind` in what is said of it.

    ValueError where it is not well-formed, and for entities, whatever they stand for.
    """
    text = legal(document.decode("utf-8-sig") if isinstance(document, bytes) else document)
    # Who reads for us declares none, and without a declaration there is nothing to expand or to
    # fetch. The parser is told the encoding, so it cannot see one where this does not.
    if "<!ENTITY" in text:
        raise ValueError(f"the {kind} declares entities")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"the {kind} is not well-formed: {error}") from error
    # Comments and instructions are gone, so what has no name is an entity nobody declared.
    if not all(isinstance(element.tag, str) for element in root.iter()):
        raise ValueError(f"the {kind} uses an entity")
    return root


def check_nesting(root: etree._Element, kinds: Callable[[etree._Element], Iterable[str]]) -> None:
    """ValueError where an element of a kind stands in another one of that kind.

    Whoever then looks for lines in each area and words in each line looks at each word once only.
    """
    open_ = Counter[str]()
    for event, element in etree.iterwalk(root, events=("start", "end")):
        for kind in kinds(element):
            open_[kind] += 1 if event == "start" else -1
            if open_[kind] > 1:
                raise ValueError(f"one {kind} stands in another")
