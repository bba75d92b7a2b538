"""What the pages say, in the languages that they speak: one table for each, in `texts/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from flask import request

_FOLDER = Path(__file__).parent / "texts"

#: The languages by their code (BCP 47), each with its own name. The first is for everybody else.
LANGUAGES = {"en": "English", "de": "Deutsch"}

#: Set by the pages when somebody chooses a language.
COOKIE = "ocr_language"


def language() -> str:
    """The language for whoever asks: the one that was chosen, or the best one for the browser."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(list(LANGUAGES)) or next(iter(LANGUAGES))


@cache
def table(code: str) -> Mapping[str, str]:
    """What the pages say in a language, by its key; `{name}` stands for what is put in.

    Errors are `error.` and their code, except in English, which the service itself speaks.
    """
    own = json.loads((_FOLDER / f"{code}.json").read_text())
    file = _FOLDER / f"errors.{code}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    return {**own, **{f"error.{name}": text for name, text in known.items()}}
