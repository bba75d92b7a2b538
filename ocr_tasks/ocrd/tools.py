"""Stub."""

from __future__ import annotations

from typing import Any


def offered() -> list[str]:
    raise NotImplementedError


def tool(name: str) -> dict[str, Any]:
    raise NotImplementedError
