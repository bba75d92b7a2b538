from __future__ import annotations

import pytest

from ocr_tasks.formats.language import bcp47


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
def test_a_language_has_its_name_of_the_web(tesseract: str, tag: str) -> None:
    assert bcp47(tesseract) == tag


@pytest.mark.parametrize("name", ["eng+deu", "script/Latin", "ita_old", "", 'en"', "en\n", "日本"])
def test_what_is_no_single_language_has_none(name: str) -> None:
    assert bcp47(name) is None
