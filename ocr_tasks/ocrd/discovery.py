"""Stub."""

from __future__ import annotations

from typing import Any


def describe() -> dict[str, Any]:
    raise NotImplementedError
