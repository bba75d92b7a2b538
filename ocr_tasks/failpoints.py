"""Failpoints: places between two steps where a test can kill the process.

A failpoint has no effect unless OCR_FAILPOINTS lists it.
"""

from __future__ import annotations

import os
import random
import signal
from functools import cache

from ocr_tasks import settings

#: All failpoints, in the order in which a job passes them.
NAMES = (
    "after_record",
    "after_publish",
    "after_claim",
    "after_page",
    "before_store",
    "after_store",
    "before_commit",
    "after_commit",
    "before_give_back",
    "after_give_back",
)


def hit(name: str) -> None:
    """Kills this process with the probability that OCR_FAILPOINTS sets for the failpoint."""
    probabilities = _probabilities()
    if probabilities and random.random() < probabilities.get(name, 0):  # noqa: S311  # no secret
        os.write(2, f"failpoint {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


@cache
def _probabilities() -> dict[str, float]:
    pairs = (pair.split("=") for pair in settings.get().failpoints.split(",") if pair)
    return {name.strip(): float(probability) for name, probability in pairs}
