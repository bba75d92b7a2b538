"""Applications with other settings, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from ocr_tasks import settings
from web.app import create_app

Configure = Callable[..., FlaskClient]

#: Settings that an application asks for with each request.
_OF_EACH_TEST = {"data_dir", "redis_url"}

_made: dict[str, Flask] = {}


def application() -> Flask:
    """An application with the present settings; the same one for the same settings."""
    chosen = settings.get().model_dump_json(exclude=_OF_EACH_TEST)
    if chosen not in _made:
        _made[chosen] = create_app()
    return _made[chosen]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Gives a client of an application with these settings."""

    def make(**changed: str) -> FlaskClient:
        for name, value in changed.items():
            monkeypatch.setenv(f"OCR_{name.upper()}", value)
        settings.get.cache_clear()
        return application().test_client()

    return make
