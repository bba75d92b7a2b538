"""Asks each program for its version once in a process.

OCRmyPDF starts seven programs with `--version` for each document, which takes as long as a tenth of
a page. It keeps no answer, and calls no hook there.
"""

from __future__ import annotations

from functools import cache

from ocrmypdf._exec import _probe

_NAME = "get_version"


def install() -> None:
    """Puts a `get_version` that remembers where OCRmyPDF's probes look for it."""
    original = getattr(_probe, _NAME)  # a new OCRmyPDF may have moved it
    if not hasattr(original, "cache_info"):
        setattr(_probe, _NAME, cache(original))
