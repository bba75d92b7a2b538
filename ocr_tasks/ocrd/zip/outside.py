"""Checks the references in PAGE documents.

Processors open the images that a PAGE document references by path or URL, and may access files that
the client may not.
"""

from __future__ import annotations

import html
import re

from ocr_tasks.formats.untrusted_xml import utf_8
from ocr_tasks.ocrd.mets.paths import is_http_url, is_url

#: `imageFilename` of a page and `filename` of an AlternativeImage. A value cannot contain `<`.
_IMAGE = re.compile(rb"ilename\s*=\s*(?:\"([^\"<]*)|'([^'<]*))")


def check(document: bytes, kind: str) -> None:
    """Raises ValueError if XML declares entities, or references images outside the workspace.

    The document is searched, not parsed; whether it is valid is not checked.
    """
    text = utf_8(document, kind)
    if not text:
        return
    # Documents in other encodings that parsers detect do not begin with `<`, or contain null bytes.
    if not text.lstrip().startswith(b"<") or b"\0" in text:
        raise ValueError(f"the {kind} is not XML in UTF-8")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError(f"the {kind} declares a document type or entities")
    for found in {one or other for one, other in _IMAGE.findall(text)}:
        name = html.unescape(found.decode("utf-8", "replace")).strip()
        if not _is_inside(name):
            raise ValueError(f"the {kind} references an image outside the workspace: {name!r:.200}")


def _is_inside(name: str) -> bool:
    if is_url(name):
        return is_http_url(name)
    return not name.startswith("/") and ".." not in name.split("/")
