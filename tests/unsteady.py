"""A misbehaving server with predefined responses, over real sockets."""

from __future__ import annotations

import http.server
import json
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Got:
    command: str
    path: str
    headers: Message
    body: bytes


class Request(http.server.BaseHTTPRequestHandler):
    """A request, and the methods of a response."""

    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        self.server.got.append(Got(self.command, self.path, self.headers, self._read()))
        step = self.server.script.pop(0) if self.server.script else answers(500)
        step(self)

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def log_message(self, *args: Any) -> None:
        """Logs nothing."""


Step = Callable[[Request], None]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.got: list[Got] = []
        self.script: list[Step] = []

    def handle_error(self, *args: Any) -> None:
        """Ignores errors, because clients disconnect intentionally."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def answers(status: int, body: Any = b"", **headers: str) -> Step:
    """Responds with a body, or with a value as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def step(request: Request) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return step


def hangs_up(request: Request) -> None:
    """Closes the connection without a response."""
    request.close_connection = True


def breaks_off(content: bytes, after: int, status: int = 200, **headers: str) -> Step:
    """Declares the length of the whole content, and closes the connection in the middle of it."""

    def step(request: Request) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[:after])
        request.close_connection = True

    return step


def refuses(status: int, code: str, **headers: str) -> Step:
    retryable = status in (429, 503)
    problem = {"code": code, "detail": "No", "advice": "Go.", "retryable": retryable, "new": 1}
    return answers(status, problem, **headers)
