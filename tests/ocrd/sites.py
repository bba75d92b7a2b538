"""A website with workspaces, on loopback."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any


class Site(http.server.ThreadingHTTPServer):
    """A server that sends `files`, redirects as `moved` says, or never responds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[str] = []
        self.stuck: set[str] = set()
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.stuck:
            self.server.ending.wait()
        content = self.server.files.get(self.path, b"")
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[self.path])
        else:
            self.send_response(200 if self.path in self.server.files else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Logs nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """Runs a website."""
    site = Site()
    thread = threading.Thread(target=site.serve_forever, args=[0.02])
    thread.start()
    yield site
    site.ending.set()
    site.shutdown()
    thread.join()
    site.server_close()
