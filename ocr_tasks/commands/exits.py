"""How commands end: their exit codes, after sysexits.h where it has one, and what they say."""

from __future__ import annotations

import sys

USAGE = 2
REFUSED = 65
UNAVAILABLE = 69
FAILED = 70
INTERRUPTED = 130


def complain(text: str, code: int) -> int:
    """Says something on standard error, and gives the exit code back."""
    print(f"ocr-tasks: {text}", file=sys.stderr)
    return code
