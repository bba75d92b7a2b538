"""Safe parsing of untrusted XML: no entities, no document types, no network access."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from lxml import etree

from ocr_tasks.formats.writing import legal


def tree(document: bytes | str, kind: str) -> etree._Element:
    """Returns the root of an untrusted XML document. `kind` is its name in error messages.

    Raises ValueError if it is not well-formed or uses entities.
    """
    text = legal(document.decode("utf-8-sig") if isinstance(document, bytes) else document)
    # Without a declaration there is nothing to expand or to fetch. OCR engines declare no entities.
    # The parser gets the encoding, so it cannot find a declaration that this check has missed.
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
    # Comments and processing instructions were removed, so an element without a name is an entity.
    if not all(isinstance(element.tag, str) for element in root.iter()):
        raise ValueError(f"the {kind} uses an entity")
    return root


#: Encodings that contain ASCII unchanged, so that checks of the bytes find all markup.
_ASCII_COMPATIBLE = re.compile(rb"iso-8859-([1-9]|1[013-6])|windows-125[0-8]", re.IGNORECASE)
_DECLARATION = re.compile(rb"<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([\w.-]{1,40})[\"']")
#: Maximum number of elements and attributes. Each takes a few hundred bytes of memory.
_MAX_NODES = 8_000_000


def utf_8(document: bytes, kind: str) -> bytes:
    """Converts an XML document to UTF-8. ValueError if its encoding is not supported."""
    if document.startswith((b"\xff\xfe", b"\xfe\xff")):
        return document.decode("utf-16").encode()
    document = document.removeprefix(b"\xef\xbb\xbf")
    declared = _DECLARATION.match(document)
    if declared is None or declared[1].lower() in (b"utf-8", b"us-ascii"):
        return document
    if not _ASCII_COMPATIBLE.fullmatch(declared[1]):
        raise ValueError(f"the {kind} has an unsupported encoding")
    return document.decode(declared[1].decode()).encode()


def large_tree(document: bytes, kind: str) -> etree._Element:
    """Returns the root of a large XML document. Keeps comments and processing instructions.

    Raises ValueError if it is not well-formed, or declares a document type or entities.
    """
    text = utf_8(document, kind)
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"the {kind} declares a document type or entities")
    if text.count(b"<") + text.count(b"=") > _MAX_NODES:
        raise ValueError(f"the {kind} has more than {_MAX_NODES} elements and attributes")
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
    """Raises ValueError if an element of a kind is nested in another element of the same kind.

    Without nesting, searching each area for lines and each line for words visits every word once.
    """
    open_ = Counter[str]()
    for event, element in etree.iterwalk(root, events=("start", "end")):
        for kind in kinds(element):
            open_[kind] += 1 if event == "start" else -1
            if open_[kind] > 1:
                raise ValueError(f"a {kind} element is nested in another one")
