"""The client of the swarm: its OCR engine, and its behavior when it is refused."""

from __future__ import annotations

import pytest

from ocr_tasks.formats import hocr
from ocr_tasks.plugin import tesseract
from ocr_tasks.swarm import device
from tests import documents

PICTURE = documents.picture("garden")


@pytest.mark.parametrize("library", [True, False])
def test_it_uses_the_library_or_the_program(monkeypatch: pytest.MonkeyPatch, library: bool) -> None:
    monkeypatch.setattr(tesseract, "available", lambda: library)
    found = hocr.parse(device.read(documents.encoded(PICTURE, "PNG"), ["eng"], 300), 1, 300)

    assert [word.text for word in found.words] == ["garden"]
    assert (found.width, found.height) == PICTURE.size


def test_an_unreachable_server_is_retried_until_the_client_stops() -> None:
    asked = 0

    def tell(done: device.Done, at_hand: int) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            worker.leave()

    worker = device.Device("http://127.0.0.1:9", "", "test", 1, ["eng"])
    worker.work(until_empty=True, report=tell)

    assert asked == 3
    assert worker.done.pages == 0
