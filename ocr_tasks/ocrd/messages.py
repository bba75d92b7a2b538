"""Stub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def results(queue_name: str, owner: str | None, seconds: float) -> Iterator[dict[str, Any]]:
    raise NotImplementedError
