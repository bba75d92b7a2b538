"""The settings of the swarm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ocr_tasks import errors, settings
from ocr_tasks.swarm import settings as swarm_settings


@pytest.fixture(autouse=True)
def _read_again() -> Iterator[None]:
    settings.clear()
    yield
    settings.clear()


def test_peers_are_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_SWARM_PEERS", "https://a.example/ , http://b.example:8000/scans")
    assert swarm_settings.get().swarm_peers == ("https://a.example", "http://b.example:8000/scans")
    settings.clear()
    monkeypatch.setenv("OCR_SWARM_PEERS", "HTTPS://a.example")
    with pytest.raises(errors.SettingsError, match="OCR_SWARM_PEERS"):
        swarm_settings.get()
