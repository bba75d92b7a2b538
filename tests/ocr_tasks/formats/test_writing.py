from __future__ import annotations

import pytest

from ocr_tasks.formats.writing import decimal, escaped, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a\t\n b\f", "a b"),
        ("a\x00b\x1bc\x9f", "abc"),
        ("no\u00a0break", "no\u00a0break"),
        ("a\u2028b\x85c", "a b c"),
        ("\ud83d", ""),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_plain_text_has_no_control_characters(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert plain(plain(text)) == expected


def test_escaped_text_ends_neither_an_element_nor_an_attribute() -> None:
    assert escaped("""<a b="c" d='e'>]]>&""") == (
        "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;]]&gt;&amp;"
    )


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (100.0, 2, "100"),
        (100.0, 0, "100"),
        (95.125, 1, "95.1"),
        (-0.000001, 2, "0"),
        (-0.009, 6, "-0.009"),
        (1e-7, 9, "0.0000001"),
        (10, 2, "10"),
    ],
)
def test_a_number_has_no_exponent_and_no_unnecessary_digits(
    value: float, digits: int, expected: str
) -> None:
    assert decimal(value, digits) == expected
