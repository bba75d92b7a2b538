"""Points at which a test can have a process die: between the steps that must not come apart.

Nothing happens at them unless OCR_FAILPOINTS names them.
"""

from __future__ import annotations

import os
import random
import signal
from functools import cache

from ocr_tasks import settings

#: All points, in the order in which a job passes them.
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
    """Kills this process with the probability that is set for the point."""
    chances = _chances()
    if chances and random.random() < chances.get(name, 0):  # noqa: S311  # no secret
        os.write(2, f"failpoint {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


@cache
def _chances() -> dict[str, float]:
    pairs = (pair.split("=") for pair in settings.get().failpoints.split(",") if pair)
    return {name.strip(): float(chance) for name, chance in pairs}
