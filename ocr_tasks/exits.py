"""Exit codes of commands, based on sysexits.h, and output to standard error."""

from __future__ import annotations

import sys

USAGE = 2
REFUSED = 65
UNAVAILABLE = 69
FAILED = 70
INTERRUPTED = 130


def report(text: str, code: int) -> int:
    """Prints a message to standard error, and returns the exit code."""
    print(f"ocr-tasks: {text}", file=sys.stderr)
    return code
