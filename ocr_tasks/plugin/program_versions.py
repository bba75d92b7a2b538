"""Caches the versions of programs.

OCRmyPDF runs seven programs with `--version` for each document, which takes about 60 ms. It has no
cache and no hook for this.
"""

from __future__ import annotations

from functools import cache

from ocrmypdf._exec import _probe

_NAME = "get_version"


def install() -> None:
    """Replaces the function `get_version` of OCRmyPDF with one that caches its results."""
    original = getattr(_probe, _NAME)  # raises if another version of OCRmyPDF does not have it
    if not hasattr(original, "cache_info"):
        setattr(_probe, _NAME, cache(original))
