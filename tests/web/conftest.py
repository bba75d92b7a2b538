"""Applications with other settings, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from ocr_tasks import settings
from web.app import create_app

Configure = Callable[..., FlaskClient]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Gives a client of an application with these settings."""

    def make(**changed: str) -> FlaskClient:
        for name, value in changed.items():
            monkeypatch.setenv(f"OCR_{name.upper()}", value)
        settings.get.cache_clear()
        return create_app().test_client()

    return make
