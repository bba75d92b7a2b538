"""Fixtures of the tests of single modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from ocr_tasks import settings
from tests.receivers import SECRET, Receiver, receiving


@pytest.fixture
def loopback(service: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_CALLBACK_NETWORKS", "127.0.0.0/8,::1/128")
    monkeypatch.setenv("OCR_WEBHOOK_SECRETS", SECRET)
    settings.get.cache_clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server
