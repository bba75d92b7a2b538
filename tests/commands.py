"""Our commands with the settings of a running stack, without the second that an interpreter takes.

A real process of a command is in `tests/swarm/test_docr.py`, `tests/acceptance/test_access.py` and
wherever signals, exit codes or what it writes to a terminal matter.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from unittest import mock

from PIL import Image

from ocr_tasks import cli, settings
from ocr_tasks.redis import connection
from tests.conftest import Stack


def run(stack: Stack, *words: str) -> str:
    """Runs a command in this process, which must succeed. Returns its standard output."""
    said, complaint = io.StringIO(), io.StringIO()
    with (
        operating(stack),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complaint),
    ):
        code = cli.main(words)
    assert code == 0, complaint.getvalue()
    return said.getvalue()


@contextlib.contextmanager
def operating(stack: Stack) -> Iterator[None]:
    """Our modules in this process have the settings and the Redis of a stack."""
    pixels = Image.MAX_IMAGE_PIXELS
    with mock.patch.dict("os.environ", stack.environment, clear=True):
        _forget()
        try:
            yield
        finally:
            connection.client().close()
            _forget()
            Image.MAX_IMAGE_PIXELS = pixels


def _forget() -> None:
    settings.get.cache_clear()
    connection.client.cache_clear()
    connection._script.cache_clear()
