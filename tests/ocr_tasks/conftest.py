"""Fixtures of the unit tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from ocr_tasks import settings
from ocr_tasks.client import retries
from tests.receivers import SECRET, Receiver, receiving
from tests.unsteady import Server


@pytest.fixture
def loopback(service: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_CALLBACK_NETWORKS", "127.0.0.0/8,::1/128")
    monkeypatch.setenv("OCR_WEBHOOK_SECRETS", SECRET)
    settings.clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("OCR_TOKEN", raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
