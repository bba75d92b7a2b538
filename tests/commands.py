"""Runs commands in the process of the tests, with the settings of a running stack.

This saves the second that Python takes to start. Real processes of commands are in
`tests/swarm/test_docr.py`, `tests/acceptance/test_access.py` and wherever signals, exit codes or
terminal output matter.
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
    """Uses the settings and the Redis of a stack in this process."""
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
    settings.clear()
    connection.client.cache_clear()
    connection._script.cache_clear()
