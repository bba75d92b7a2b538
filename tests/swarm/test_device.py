"""The client of the swarm: its OCR engine, and its behavior when it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from ocr_tasks.formats import hocr
from ocr_tasks.plugin import tesseract
from ocr_tasks.swarm import device
from tests import documents
from tests.receivers import receiving

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


def test_a_page_of_another_server_that_fails_for_the_duration_of_the_lease_is_given_up() -> None:
    with receiving() as home, receiving() as other:  # both answer GET with 501
        referral = {"pages": [], "peer": other.url.removesuffix("/hook"), "via": ["here", "there"]}
        nothing = {"pages": [], "peer": None, "via": []}
        home.answer = offers(referral, nothing)
        other.answer = offers({**nothing, "pages": [LEASE]})
        laptop = device.Device(home.url.removesuffix("/hook"), "", "laptop", 1, ["eng"])
        laptop.work(until_empty=True)

    assert (laptop.done.pages, laptop.done.lost) == (0, 1)


LINKS = dict.fromkeys(("image", "transcript", "renew", "release", "failure"), "/gone")
LEASE = {"lease": "x", "name": "a.png", "languages": ["eng"], "dpi": 300, "seconds": 0, **LINKS}


def offering(**changed: Any) -> Any:
    """Returns an offer of a page with other fields; those that are None are missing."""
    page = {name: value for name, value in {**LEASE, **changed}.items() if value is not None}
    return {"pages": [page], "peer": None, "via": []}


@pytest.mark.parametrize(
    "reply",
    [
        [],
        offering(renew=None),
        offering(renew="http://["),
        offering(release="http://["),
        offering(image="\ud800"),
        offering(lease=["x"]),
        offering(name=None),
        offering(languages=["\ud800"]),
        offering(seconds=None),
        offering(seconds="soon"),
        offering(seconds=10**400),
        offering(seconds=float("nan")),
        offering(dpi=float("inf")),
        {"pages": [], "peer": "\ud800", "via": []},
        {"pages": [], "peer": None, "via": ["\ud800"], "retry_after": None},
        b"[" * 100_000,
        {"pages": None, "peer": None, "via": []},
        {"pages": [{}], "peer": None, "via": []},
        {"pages": [], "peer": {}, "via": []},
        {"pages": [], "peer": "file:///etc/passwd", "via": []},
        {"pages": [], "peer": "http://[", "via": ["x"] * 1000},
    ],
)
def test_no_response_of_another_server_ends_a_device(reply: Any) -> None:
    nothing = {"pages": [], "peer": None, "via": []}
    with receiving() as home, receiving() as other:
        home.answer = offers({**nothing, "peer": other.url.removesuffix("/hook")}, nothing)
        other.answer = offers(reply)
        laptop = device.Device(home.url.removesuffix("/hook"), "", "laptop", 1, ["eng"])
        laptop.work(until_empty=True)

    assert (laptop.done.pages, laptop.done.failed) == (0, 0)
    assert len(home.got) == 2
    assert len(json.loads(home.got[-1][1])["via"]) <= 100


def test_a_device_keeps_a_limited_number_of_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_MAX_SERVERS", 2)
    monkeypatch.setattr(device, "_MAX_SKIPPED", 2)
    nothing = {"pages": [], "peer": None, "via": []}
    with receiving() as home:
        url = home.url.removesuffix("/hook")
        home.answer = offers(*({**nothing, "peer": f"http://127.0.0.1:9/{n}"} for n in range(9)))
        laptop = device.Device(url, "", "laptop", 1, ["eng"])
        laptop.work(until_empty=True)

    assert (len(laptop._servers), len(laptop._skipped)) == (3, 2)


def offers(*replies: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns the handler of a server that sends these offers, and the last one again and again."""
    left = list(replies)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        reply = left.pop(0) if len(left) > 1 else left[0]
        is_text = isinstance(reply, bytes)
        content = reply if is_text else json.dumps(reply and {"retry_after": 0, **reply}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer
