"""Translations of the web pages: one JSON file per language, in `texts/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from flask import request

_FOLDER = Path(__file__).parent / "texts"

#: Languages by code (BCP 47), with their own names. The first is the default.
LANGUAGES = {"en": "English", "de": "Deutsch"}

#: Set by the pages when the user selects a language.
COOKIE = "ocr_language"


def language() -> str:
    """Returns the language of the current request: the selected or the browser's preferred one."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(list(LANGUAGES)) or next(iter(LANGUAGES))


@cache
def table(code: str) -> Mapping[str, str]:
    """Returns the texts of a language by key. `{name}` is a placeholder.

    Keys of errors are `error.` and the code. English has none; the page shows the server's text.
    """
    own = json.loads((_FOLDER / f"{code}.json").read_text())
    file = _FOLDER / f"errors.{code}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    return {**own, **{f"error.{name}": text for name, text in known.items()}}
