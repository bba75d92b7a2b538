"""Conversion between Tesseract's language names and BCP 47 tags."""

from __future__ import annotations

import re
from collections.abc import Collection

# BCP 47 uses the shortest code of ISO 639 (https://www.rfc-editor.org/rfc/rfc5646#section-2.2.1),
# which differs from these names of Tesseract's
# (https://tesseract-ocr.github.io/tessdoc/Data-Files-in-different-versions). Tesseract's other
# three-letter codes are also valid tags.
_TAGS = {
    tesseract: tag
    for tag, codes in {
        "af": "afr", "am": "amh", "ar": "ara", "as": "asm", "az": "aze", "az-Cyrl": "aze_cyrl",
        "be": "bel", "bg": "bul", "bn": "ben", "bo": "bod", "br": "bre", "bs": "bos",
        "ca": "cat", "co": "cos", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu",
        "de-Latf": "deu_latf frk deu_frak", "dv": "div", "dz": "dzo", "el": "ell", "en": "eng",
        "eo": "epo", "es": "spa", "et": "est", "eu": "eus", "fa": "fas", "fi": "fin",
        "fo": "fao", "fr": "fra", "fy": "fry", "ga": "gle", "gd": "gla", "gl": "glg",
        "gu": "guj", "he": "heb", "hi": "hin", "hr": "hrv", "ht": "hat", "hu": "hun",
        "hy": "hye", "id": "ind", "is": "isl", "it": "ita", "iu": "iku",
        "ja": "jpn jpn_vert", "jv": "jav", "ka": "kat", "kk": "kaz", "km": "khm",
        "kn": "kan", "ko": "kor kor_vert", "ku": "kur", "ky": "kir", "la": "lat",
        "lb": "ltz", "lo": "lao", "lt": "lit", "lv": "lav", "mi": "mri", "mk": "mkd",
        "ml": "mal", "mn": "mon", "mr": "mar", "ms": "msa", "mt": "mlt", "my": "mya",
        "ne": "nep", "nl": "nld", "no": "nor", "oc": "oci", "or": "ori", "pa": "pan",
        "pl": "pol", "ps": "pus", "pt": "por", "qu": "que", "ro": "ron", "ru": "rus",
        "sa": "san", "sd": "snd", "si": "sin", "sk": "slk", "sl": "slv", "sq": "sqi",
        "sr": "srp", "sr-Latn": "srp_latn", "su": "sun", "sv": "swe", "sw": "swa",
        "ta": "tam", "te": "tel", "tg": "tgk", "th": "tha", "ti": "tir", "to": "ton",
        "tr": "tur", "tt": "tat", "ug": "uig", "uk": "ukr", "ur": "urd", "uz": "uzb",
        "uz-Cyrl": "uzb_cyrl", "vi": "vie", "yi": "yid", "yo": "yor",
        "zh-Hans": "chi_sim chi_sim_vert", "zh-Hant": "chi_tra chi_tra_vert",
    }.items()
    for tesseract in codes.split()
}  # fmt: skip
# Aliases: tags without a script, deprecated tags, and tags of languages that Tesseract covers with
# another one.
_ALIASES = {
    "zh": "zh-hans", "zh-cn": "zh-hans", "zh-sg": "zh-hans",
    "zh-tw": "zh-hant", "zh-hk": "zh-hant", "zh-mo": "zh-hant",
    "nb": "no", "nn": "no", "iw": "he", "in": "id", "ji": "yi", "tl": "fil",
}  # fmt: skip
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", re.ASCII)


def bcp47(language: str) -> str | None:
    """Returns the BCP 47 tag of a Tesseract language, or None if it is not one (e.g. `eng+deu`)."""
    tag = _TAGS.get(language, language)
    return tag if _TAG.fullmatch(tag) else None


def tesseract(tag: str, installed: Collection[str]) -> str | None:
    """Returns the installed language for a BCP 47 tag (`deu` for `de-AT`), or None.

    The tag is shortened step by step until a language matches (RFC 4647, section 3.4).
    """
    parts = tag.lower().split("-") if _TAG.fullmatch(tag) else []
    while parts:
        name = _ALIASES.get("-".join(parts), "-".join(parts))
        codes = [code for code, known in _TAGS.items() if known.lower() == name]
        for code in (*codes, name):
            if code in installed:
                return code
        parts.pop()
    return None
