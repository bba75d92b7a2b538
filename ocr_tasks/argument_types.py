"""Types of command line arguments. Errors say which values are valid."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Returns the type of whole numbers from `least` to `most`."""
    limits = f"{least} or more" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            value = int(text)
            if value >= least and (most is None or value <= most):
                return value
        raise argparse.ArgumentTypeError(f"must be a whole number, {limits}")

    return parse


def number(least: float, most: float, more: bool = False) -> Callable[[str], float]:
    """Returns the type of numbers from `least` (or with `more`: more than that) to `most`."""
    limits = f"more than {least:g} and at most {most:g}" if more else f"from {least:g} to {most:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if least <= value <= most and not (more and value == least):
            return value
        raise argparse.ArgumentTypeError(f"must be a number, {limits}")

    return parse


def url(text: str) -> str:
    """The type of URLs of servers."""
    if re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        return text
    raise argparse.ArgumentTypeError(f"must be a URL, e.g. https://scans.example, not {text!r}")
