"""XML that others wrote: parsed without believing it."""

from __future__ import annotations

import re
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


#: Encodings in which markup cannot hide: each of its characters is the byte that it is in ASCII.
_PLAIN = re.compile(rb"iso-8859-([1-9]|1[013-6])|windows-125[0-8]", re.IGNORECASE)
_DECLARATION = re.compile(rb"<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
#: Elements and attributes; each takes some hundred bytes of memory.
_MOST_NODES = 8_000_000


def utf_8(document: bytes, kind: str) -> bytes:
    """An XML document in UTF-8, whatever it was in; ValueError for odd encodings."""
    if document.startswith((b"\xff\xfe", b"\xfe\xff")):
        return document.decode("utf-16").encode()
    document = document.removeprefix(b"\xef\xbb\xbf")
    declared = _DECLARATION.match(document)
    if declared is None or declared[1].lower() in (b"utf-8", b"us-ascii"):
        return document
    if not _PLAIN.fullmatch(declared[1]):
        raise ValueError(f"the {kind} is in another encoding than UTF-8")
    return document.decode(declared[1].decode()).encode()


def large_tree(document: bytes, kind: str) -> etree._Element:
    """The root of an XML document of any size, which is to be written again: nothing is left out.

    ValueError where it is not well-formed, and for document types, whatever they declare.
    """
    text = utf_8(document, kind)
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"the {kind} declares a document type or entities")
    if text.count(b"<") + text.count(b"=") > _MOST_NODES:
        raise ValueError(f"the {kind} has more than {_MOST_NODES} elements and attributes")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
    )
    try:
        return etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"the {kind} is not well-formed: {error}") from error


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
