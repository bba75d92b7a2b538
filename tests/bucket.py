"""An S3 server for tests: `rclone serve s3`, which checks signatures and keeps objects in a folder.

A proxy in front of it can be stopped and started. It also corrects the one difference between
rclone and S3: rclone responds to a Range request with 200 instead of 206.

    python -m tests.bucket FOLDER [HOST:PORT]     serves s3://ocr until it is stopped
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import free_port, wait_until

BUCKET = "ocr"
KEY, SECRET = "test-key", "test-secret-that-nobody-may-see"

_PIECE = 1024 * 1024


@dataclass
class Bucket:
    """A running S3 server with one empty bucket."""

    folder: Path
    port: int
    behind: int
    requests: list[str] = field(default_factory=list)
    #: The response to every request, as a status and an error code of S3; None: the normal
    #: response.
    answer: tuple[int, str] | None = None
    _front: http.server.ThreadingHTTPServer | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Returns the settings of processes that use the bucket."""
        return {
            "OCR_STORAGE_URL": f"s3://{BUCKET}/jobs-of-tests",
            "OCR_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OCR_S3_ALLOW_HTTP": "1",
            "OCR_S3_ACCESS_KEY_ID": KEY,
            "OCR_S3_SECRET_ACCESS_KEY": SECRET,
        }

    def objects(self) -> list[str]:
        """Returns the names of all objects, except the one that is written to test write access."""
        root = self.folder / BUCKET / "jobs-of-tests"
        # Unlike `rglob`, it continues if a folder is deleted meanwhile.
        files = (Path(folder, file) for folder, _, files in os.walk(root) for file in files)
        names = (str(path.relative_to(root)) for path in files)
        return sorted(name for name in names if not name.startswith("."))

    def path(self, name: str) -> Path:
        """Returns the file of an object."""
        return self.folder / BUCKET / "jobs-of-tests" / name

    def come(self, address: str = "127.0.0.1") -> None:
        """Makes the server available."""
        handler = type("Front", (_Front,), {"bucket": self})
        self._front = _Server((address, self.port), handler)
        threading.Thread(target=self._front.serve_forever, args=(0.05,), daemon=True).start()

    def go(self) -> None:
        """Makes the server unavailable: connections are refused."""
        assert self._front
        self._front.shutdown()
        self._front.server_close()
        self._front.cut()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        pass  # a client has disconnected

    def cut(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def _pass_on(self) -> None:
        self.close_connection = True  # no thread may outlive its request
        self.bucket.requests.append(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        if self.bucket.answer:
            self._refuse(*self.bucket.answer, self.rfile.read(length))
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.bucket.behind, timeout=60)
        with contextlib.closing(behind):
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                behind.putheader(name, value)
            behind.endheaders()
            while length > 0 and (piece := self.rfile.read(min(length, _PIECE))):
                behind.send(piece)
                length -= len(piece)
            self._answer(behind.getresponse())

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        ranged = answer.status == 200 and answer.headers["Content-Range"]
        self.send_response_only(206 if ranged else answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while piece := answer.read(_PIECE):
            self.wfile.write(piece)

    def _refuse(self, status: int, code: str, _: bytes) -> None:
        content = f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path, address: str = "127.0.0.1", port: int = 0) -> Iterator[Bucket]:
    """Runs an S3 server that keeps its objects in a folder."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:/usr/bin")
    assert program, "rclone is not installed; it comes with the packages for development"
    bucket = Bucket(folder, port or free_port(), free_port())
    command = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{bucket.behind}"]
    server = subprocess.Popen(
        [*command, "--auth-key", f"{KEY},{SECRET}", "--config", "/dev/null"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _answers(bucket.behind))
        bucket.come(address)
        yield bucket
        bucket.go()
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def main() -> None:
    """Serves until it is stopped."""
    address, _, port = (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:9000").rpartition(":")
    with (
        serving(Path(sys.argv[1]), address, int(port)) as bucket,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(f"s3://{BUCKET} at http://{address}:{bucket.port}, key {KEY}, secret {SECRET}")
        threading.Event().wait()


if __name__ == "__main__":
    main()
