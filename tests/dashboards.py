"""A running Flower, and a Redis with a password, as in containers."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.conftest import Stack, free_port, wait_until

#: Secrets that must not be visible anywhere.
REDIS_PASSWORD = "redis-password-1234"
FLOWER_PASSWORD = "flower-password-1234"

#: The permissions of the service in Redis: everything but administration.
RIGHTS = "~* &* +@all -@admin -@dangerous +info"


@contextlib.contextmanager
def redis_with_password(folder: Path) -> Iterator[dict[str, str]]:
    """Runs a Redis that listens on a port; returns the settings of a stack that uses it."""
    folder.mkdir(parents=True)
    port = free_port()
    rights = folder / "redis.conf"
    rights.write_text(
        f"user default off resetpass ~* &* +@all\nuser ocr on >{REDIS_PASSWORD} {RIGHTS}\n"
    )
    program = shutil.which("redis-server")
    assert program
    command = [program, rights, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
    server = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        yield {
            "OCR_REDIS_URL": f"redis://ocr@127.0.0.1:{port}/0",
            "OCR_REDIS_PASSWORD": REDIS_PASSWORD,
        }
    finally:
        server.terminate()
        server.wait()


@dataclass
class Flower:
    """A running `ocr-tasks flower`."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=("ocr", FLOWER_PASSWORD), timeout=30)


@contextlib.contextmanager
def flower(stack: Stack, folder: Path, **settings: str) -> Iterator[Flower]:
    """Runs Flower for a stack, and waits until it knows the workers."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "flower.log"
    own = {"OCR_FLOWER_PORT": str(port), "OCR_FLOWER_PASSWORD": FLOWER_PASSWORD}
    with log.open("ab") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "ocr_tasks.cli", "flower"],
            env=stack.environment | own | settings,
            stdout=words,
            stderr=words,
            cwd=folder,
        )
    prefix = settings.get("OCR_FLOWER_URL_PREFIX", "")
    running = Flower(f"http://127.0.0.1:{port}/{prefix}".rstrip("/"), log, process)

    def knows_workers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError), running.client() as client:
            return bool(client.get("/api/workers", params={"refresh": "1"}).json())
        return False

    try:
        wait_until(knows_workers)
        yield running
    finally:
        process.terminate()
        process.wait(20)
