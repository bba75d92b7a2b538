"""What the XML of a page must not lead to: a processor that opens it has more rights than a client.

PAGE names images by path or address, and processors open what it names.
"""

from __future__ import annotations

import html
import re

from ocr_tasks.formats.reading import utf_8
from ocr_tasks.ocrd.mets.paths import is_url, is_web_address

#: `imageFilename` of a page and `filename` of an image made of it. A `<` cannot be in a value.
_IMAGE = re.compile(rb"ilename\s*=\s*(?:\"([^\"<]*)|'([^'<]*))")


def check(document: bytes, kind: str) -> None:
    """ValueError where XML declares entities or a document type, or names images elsewhere.

    What it is otherwise is not looked at, so this is quick.
    """
    text = utf_8(document, kind)
    if not text:
        return
    # All other encodings that parsers find out by themselves begin with something else, or have it.
    if not text.lstrip().startswith(b"<") or b"\0" in text:
        raise ValueError(f"the {kind} is not XML in UTF-8")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"the {kind} declares a document type or entities")
    for found in {one or other for one, other in _IMAGE.findall(text)}:
        name = html.unescape(found.decode("utf-8", "replace")).strip()
        if not _is_inside(name):
            raise ValueError(f"the {kind} names the image {name!r:.200}")


def _is_inside(name: str) -> bool:
    if is_url(name):
        return is_web_address(name)
    return not name.startswith("/") and ".." not in name.split("/")
