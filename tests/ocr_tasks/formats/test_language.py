from __future__ import annotations

import pytest

from ocr_tasks.formats.language import bcp47, tesseract


@pytest.mark.parametrize(
    ("tesseract", "tag"),
    [
        ("eng", "en"),
        ("deu", "de"),
        ("frk", "de-Latf"),
        ("chi_sim", "zh-Hans"),
        ("chi_tra_vert", "zh-Hant"),
        ("grc", "grc"),
        ("de-AT", "de-AT"),
    ],
)
def test_a_language_has_its_bcp_47_tag(tesseract: str, tag: str) -> None:
    assert bcp47(tesseract) == tag


@pytest.mark.parametrize("name", ["eng+deu", "script/Latin", "ita_old", "", 'en"', "en\n", "日本"])
def test_other_names_have_no_tag(name: str) -> None:
    assert bcp47(name) is None


INSTALLED = {"eng", "deu", "frk", "nor", "chi_sim", "chi_tra", "grc", "srp", "srp_latn"}


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("de", "deu"),
        ("de-AT", "deu"),
        ("DE-latf-de", "frk"),
        ("nb-NO", "nor"),
        ("zh-TW", "chi_tra"),
        ("zh-Hant-HK", "chi_tra"),
        ("zh", "chi_sim"),
        ("sr-Latn-RS", "srp_latn"),
        ("grc", "grc"),
        ("deu", "deu"),
    ],
)
def test_a_tag_is_mapped_to_the_installed_language(tag: str, code: str) -> None:
    assert tesseract(tag, INSTALLED) == code


@pytest.mark.parametrize("tag", ["fr", "fr-FR", "", "../eng", "de_DE", "english", "e", "de-\n"])
def test_an_unknown_tag_is_mapped_to_nothing(tag: str) -> None:
    assert tesseract(tag, INSTALLED) is None
