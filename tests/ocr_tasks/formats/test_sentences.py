"""Lists in sentences."""

from __future__ import annotations

import pytest

from ocr_tasks.formats.sentences import listed


@pytest.mark.parametrize(
    ("items", "text"),
    [(["tags"], "tags"), ([2, 3], "2 and 3"), (["a", "b", "c"], "a, b and c")],
)
def test_items_are_listed(items: list[object], text: str) -> None:
    assert listed(items) == text
