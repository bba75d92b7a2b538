"""Single components of a stack: Redis, and web servers without a worker."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from tests.conftest import Stack, free_port, wait_until


@dataclass
class Web(Stack):
    """A running `ocr-tasks web`, which starts in half of the time of a stack."""

    program = "web"

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError), self.client() as http:
            return http.get("/healthz").status_code == 200
        return False


@contextlib.contextmanager
def web_server(folder: Path, redis_url: str, port: int = 0, **settings: str) -> Iterator[Web]:
    """Runs a web server with its own data folder."""
    settings = {"OCR_WEB_PROCESSES": "1", "OCR_REDIS_URL": redis_url} | settings
    with _running(Web(folder / "data", port or free_port(), folder / "log", settings)) as web:
        yield web


@contextlib.contextmanager
def another_web(stack: Stack, **settings: str) -> Iterator[Web]:
    """Runs another web server of a stack, with other settings."""
    port = free_port()
    log = stack.log.with_name(f"log-{port}")
    with _running(Web(stack.data_dir, port, log, stack.settings | settings)) as web:
        yield web


@contextlib.contextmanager
def _running(web: Web) -> Iterator[Web]:
    try:
        web.start()
        yield web
    finally:
        if web.process and web.process.poll() is None:
            web.stop()


@dataclass
class RedisServer:
    """A Redis with a URL that stays the same when it is restarted, and with its data on disk."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self.folder / "redis.sock"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program
        self._socket.unlink(missing_ok=True)
        command = [program, "--port", "0", "--unixsocket", self._socket, "--dir", self.folder]
        self.process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "yes"], stdout=subprocess.DEVNULL
        )
        wait_until(self._socket.exists)

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process
        self.signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def redis_process(folder: Path) -> Iterator[RedisServer]:
    """Runs a Redis for a test that breaks it."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
