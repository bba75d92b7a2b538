"""What `ocr-tasks up` prints when the stack is ready, and when it is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ocr_tasks import settings, supervisor

WAITING = {"missing": ["workers"], "parts": {"redis": "ok", "workers": "starting: soon"}}
GONE = {"missing": ["workers"], "parts": {"redis": "ok", "workers": "nobody is there"}}


class Web:
    """A web server with predefined responses; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked += 1
                status, body = web.answers[0] if len(web.answers) == 1 else web.answers.pop(0)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    # Frequent polling lets the server end at once.
    thread = threading.Thread(target=made.server.serve_forever, args=[0.01])
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(supervisor, "say", lines.append)
    return lines


def readiness(web: Web, **changed: str) -> supervisor._Readiness:
    port = web.server.server_port
    return supervisor._Readiness(settings.Settings(port=port, **changed))  # type: ignore[arg-type]


def test_it_reports_once_that_the_stack_is_ready(web: Web, said: list[str]) -> None:
    web.answers = [(503, WAITING), (200, {"missing": [], "parts": {}})]
    found = readiness(web, host="0.0.0.0")
    found.check()
    assert said == []
    found.check()
    found.check()
    assert said == [f"ready: http://0.0.0.0:{web.server.server_port}  (Ctrl-C to stop)"]
    assert web.asked == 2


def test_it_reports_what_is_missing_after_a_while(
    web: Web, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", -1)
    web.answers = [
        (503, WAITING),
        (503, WAITING),
        (503, GONE),
        (403, b"no"),
        (403, {"title": "No"}),
    ]
    found = readiness(web)
    for _ in range(5):
        found.check()
    assert said == [
        "not ready yet: workers: starting: soon",
        "not ready yet: workers: nobody is there",
        "not ready yet: the web server responds with status 403",
        "not ready yet: No",
    ]


def test_it_waits_for_a_web_server_that_does_not_respond(
    web: Web, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", -1)
    found = readiness(web)
    web.server.server_close()
    found.check()
    assert said == ["not ready yet: the web server does not respond yet"]


def test_the_embedded_redis_is_checked_without_a_library(redis_server: str, tmp_path: Any) -> None:
    silent = settings.Settings(data_dir=tmp_path)
    assert supervisor._ping_embedded(silent)

    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "redis.sock").symlink_to(redis_server.removeprefix("unix://"))
    assert supervisor._ping_embedded(silent) == ""


def test_an_external_redis_is_checked(redis_server: str, tmp_path: Any) -> None:
    assert supervisor._ping_external(settings.Settings(redis_url=redis_server)) == ""
    away = settings.Settings(redis_url=f"unix://{tmp_path}/none.sock")
    assert supervisor._ping_external(away)
