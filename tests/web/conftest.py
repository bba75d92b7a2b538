"""Fixtures with applications of other settings, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ocr_tasks import settings
from web.app import create_app

Configure = Callable[..., FlaskClient]

#: Settings that an application gets for each request.
_OF_EACH_TEST = {"data_dir", "redis_url"}

_made: dict[str, Flask] = {}


def application() -> Flask:
    """Returns an application with the current settings; it is cached by its settings."""
    chosen = settings.get().model_dump_json(exclude=_OF_EACH_TEST)
    if chosen not in _made:
        _made[chosen] = create_app()
    return _made[chosen]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Returns a function that creates a client of an application with the given settings."""

    def make(**changed: str) -> FlaskClient:
        for name, value in changed.items():
            monkeypatch.setenv(f"OCR_{name.upper()}", value)
        settings.clear()
        return application().test_client()

    return make
